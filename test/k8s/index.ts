/** The Kubernetes test bench: what tests of other packages use of it. */
export { ensurePrograms, missingPrograms, type Program } from './binaries/index.ts';
export {
  type CommandResult,
  ControlPlane,
  type ControlPlaneOptions,
  startControlPlane,
} from './control-plane/cluster.ts';
export { Daemon, freePort } from './control-plane/daemon.ts';
export { type FakeNode, fakeNode } from './kwok/nodes.ts';
