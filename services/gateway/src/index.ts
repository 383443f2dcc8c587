export { gatewaySchema, type GatewayConfig } from './config.ts';
export { buildApp } from './app.ts';
export { openapiDocument } from './openapi-document.ts';
