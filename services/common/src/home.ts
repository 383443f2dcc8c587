import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** Folder for what outlives a checkout, pulled models and caches: GUILDHALL_HOME, by default `~/.guildhall`. */
export function guildhallHome(env: Record<string, string | undefined>): string {
  return resolve(env['GUILDHALL_HOME'] || join(homedir(), '.guildhall'));
}
