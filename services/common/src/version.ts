import { readFileSync } from 'node:fs';

/** Release of the programs; all packages share it. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
