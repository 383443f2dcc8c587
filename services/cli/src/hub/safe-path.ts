import { fail } from '@guildhall/common';

const MAX_PATH = 1024;
const MAX_PART = 200;

/**
 * Refuses paths that no git repository can hold: they would leave the folder that they are joined to.
 * @throws hub_invalid.
 */
export function refuseHostilePath(path: string): void {
  const parts = path.split('/');
  if (path.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw unacceptable(path);
}

/**
 * Refuses paths that cannot be stored as they are: too long, special to some system or terminal, or named like files
 * of our own.
 * @throws hub_invalid.
 */
export function refuseAwkwardPath(path: string): void {
  const parts = path.split('/');
  const awkward =
    path.length > MAX_PATH || /[\p{Cc}\\:]/u.test(path) || parts.some((part) => Buffer.byteLength(part) > MAX_PART);
  const ours = /^\.guildhall/i.test(parts[0] ?? '') || /\.outline$/i.test(path);
  if (awkward || ours) throw unacceptable(path);
}

function unacceptable(path: string): Error {
  return fail(
    'hub_invalid',
    `the repository has a file with an unacceptable name: ${JSON.stringify(path.slice(0, 120))}`,
  );
}
