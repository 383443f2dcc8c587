/** What router and workers of the dispatch bench agree on: rows of 2 KiB, and an expert for each of two workers. */
export const SHAPE = {
  hidden: 1024,
  /** So small that its arithmetic does not count: the bench is about the way there and back. */
  intermediate: 16,
  numLayers: 1,
  numExperts: 2,
  topK: 2,
  maxMessageBytes: 1 << 20,
  fingerprint: 'dispatch-bench',
  numericsId: 'dispatch-bench',
} as const;

/** Path of the stream that gives every message back. */
export const ECHO_PATH = '/bench.Echo/Stream';

/** Neither TLS nor tokens: everything is on loopback. */
export const SECURITY = { clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };
