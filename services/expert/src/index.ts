export { type ExpertApp, type ExpertDeps, startExpert } from './app.ts';
export { type ExpertConfig, expertSchema } from './config.ts';
