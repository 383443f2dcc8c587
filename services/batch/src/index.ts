export { batchSchema, type BatchConfig } from './config.ts';
