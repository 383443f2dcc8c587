/** Where a metric is exposed. */
export type MetricService = 'gateway' | 'router' | 'expert' | 'controller' | 'batch' | 'all';

export interface MetricInfo {
  type: 'counter' | 'gauge' | 'histogram';
  help: string;
  labels: readonly string[];
  services: readonly MetricService[];
  /** Upper bounds, histograms only; seconds where the name says so. */
  buckets?: readonly number[];
}

/** Upper bounds of what takes milliseconds to minutes, seconds. */
export const LATENCY = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
/** Upper bounds of what takes microseconds to seconds, seconds. */
export const SHORT = [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
