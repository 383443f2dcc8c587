/** What tests of other packages use of the CLI: sandboxes, and the load of `guildhall chaos` that knows its answers. */
export { inSandbox, runInSandbox, sandboxProblem } from '../net/sandbox.ts';
export { type KnownRequest, Load, type LoadResult, undisturbed } from '../chaos/load.ts';
export { type LoadRequest, makeRequests } from '../chaos/requests.ts';
export { type ApiTarget, longestGap, streamRequest, type StreamResult } from '../chaos/stream.ts';
