/** The router as other packages see it: its configuration and a way to run it in this process. */
export { type RouterApp, type RouterDeps, startRouter } from './app.ts';
export { loadRouterConfig, type RouterConfig, routerSchema } from './config.ts';
export { DirectoryPublisher, type DirectoryPublisherOptions } from './kv/directory-publisher.ts';
