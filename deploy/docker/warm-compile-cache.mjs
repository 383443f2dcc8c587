/**
 * Fills the cache of compiled code while an image is made; in a running container the file system is read-only.
 * Node keeps a cache for each user, so the programs run as the image's user here; what they wrote then belongs to
 * root and can be read by all.
 *
 *   node warm-compile-cache.mjs FOLDER UID
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const [cache, uid] = process.argv.slice(2);
if (cache === undefined || uid === undefined) {
  process.stderr.write('usage: node warm-compile-cache.mjs FOLDER UID\n');
  process.exit(2);
}

mkdirSync(cache, { recursive: true });
chownSync(cache, Number(uid), Number(uid));
// Every program beside this one, up to its help: all that it imports has been compiled by then. The hook has neither
// help nor imports.
const programs = readdirSync(import.meta.dirname).filter(
  (name) => name.endsWith('.js') && name !== 'guildhall-drain.js',
);
for (const program of programs) {
  const command = [join(import.meta.dirname, program), '--help'];
  const env = { ...process.env, NODE_COMPILE_CACHE: cache };
  const options = { uid: Number(uid), gid: Number(uid), env, encoding: 'utf8' };
  const { status, stderr } = spawnSync(process.execPath, command, options);
  if (status !== 0) throw new Error(`${program} --help ended with ${status}: ${stderr}`);
}
const written = readdirSync(cache, { recursive: true }).map((name) => join(cache, name));
for (const path of [cache, ...written]) {
  chownSync(path, 0, 0);
  chmodSync(path, lstatSync(path).isDirectory() ? 0o755 : 0o644);
}
process.stdout.write(`${written.length} entries in ${cache}\n`);
