/** What benches use of the tests' harness: clusters of real processes. */
export { Cluster, type ClusterOptions } from './cluster.ts';
export { type Answer, type RequestFields, RouterClient } from './router-client.ts';
export { type Sample, sumOf } from './samples.ts';
export { until } from './wait.ts';
export { promptIds, residentMiB, ShortStreams, type StreamFigures, timedCompletion } from './long-prompt.ts';
