import type { HubFile } from './hub-client.ts';
import type { HttpContext, OpenResponse } from './http.ts';

/** What attempts at a source need of the outside world. */
export type RetryContext = Omit<HttpContext, 'endpoint'>;

/** Where the files of a model come from: a hub, or a bucket. */
export interface FileSource {
  readonly context: RetryContext;
  /** What a revision stands for now: something that never means other files. */
  commitOf(revision: string): Promise<string>;
  /** Files of it whose paths are wanted. */
  listFiles(commit: string, keep: (path: string) => boolean): Promise<HubFile[]>;
  /** Bytes of a file: one attempt; `begin`..`end` (exclusive) where a part is wanted. */
  open(commit: string, path: string, range: { begin: number; end: number | null } | null): Promise<OpenResponse>;
}
