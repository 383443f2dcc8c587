/**
 * The only contract between processes: generated messages and service definitions of `guildhall.v1`.
 */
export * as experts from '../gen/guildhall/v1/experts.ts';
export * as router from '../gen/guildhall/v1/router.ts';
export * as control from '../gen/guildhall/v1/control.ts';
export * as pages from '../gen/guildhall/v1/pages.ts';
export * as weights from '../gen/guildhall/v1/weights.ts';
export * as batches from '../gen/guildhall/v1/batches.ts';
