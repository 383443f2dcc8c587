/** The streams of a worker and the pace of its loading without the rest of it, for benches. */
export { Batcher } from '../batcher.ts';
export type { WorkerIdentity } from '../identity.ts';
export { heldFrame } from './frames.ts';
export { ExpertsService } from './service.ts';
export { LoadPace, type LoadPaceOptions } from '../weights/load-pace.ts';
