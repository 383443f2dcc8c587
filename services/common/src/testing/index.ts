export { freePort, RedisServer } from './redis-server.ts';
export { eventually } from './eventually.ts';
export { silentLogger } from './silent-logger.ts';
export type { SinkSpan } from './otlp-decode.ts';
export { OtlpSink } from './otlp-sink.ts';
export { type RedisClusterNode, RedisNodes } from './redis-nodes.ts';
export { MASTER_NAME, RedisSentinels } from './redis-sentinels.ts';
export { PLAIN_KEY } from './plain-key.ts';
