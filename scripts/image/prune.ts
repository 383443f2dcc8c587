import { constants, copyFileSync, mkdirSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { LEFT_OUT_FILES, PLATFORM } from './layout.ts';

/** Whether a file of an npm package is needed at run time; `path` is relative to the package. */
export function isNeeded(packageName: string, path: string): boolean {
  if (path.endsWith('.node') || path.startsWith('prebuilds/')) return isOfPlatform(path);
  return !LEFT_OUT_FILES.some((rule) => rule.path.test(path) && (rule.in === undefined || rule.in.test(packageName)));
}

/** Native addons carry the platform in their name; those that do not are for every one. The image has glibc. */
function isOfPlatform(path: string): boolean {
  if (/\bmusl\b/.test(path)) return false;
  const named = /(?:darwin|win32|android|freebsd|linux|ios)[\w-]*/.exec(path)?.[0];
  return named === undefined || named.startsWith(PLATFORM);
}

/** Copies what is needed of an installed package, without the packages inside it. */
export function copyPackage(packageName: string, from: string, to: string): void {
  const folders = ['.'];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    let isMade = false;
    for (const entry of readdirSync(join(from, folder), { withFileTypes: true })) {
      const path = posix.join(folder, entry.name);
      if (entry.isDirectory()) {
        if (path !== 'node_modules') folders.push(path);
        continue;
      }
      if (!entry.isFile() || !isNeeded(packageName, path)) continue;
      if (!isMade) mkdirSync(join(to, folder), { recursive: true });
      isMade = true;
      copyFileSync(join(from, path), join(to, path), constants.COPYFILE_FICLONE);
    }
  }
}
