export { freePort, RedisServer } from './redis-server.ts';
export { eventually } from './eventually.ts';
export { silentLogger } from './silent-logger.ts';
