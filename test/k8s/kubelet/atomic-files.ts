import { mkdir, mkdtemp, readdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { chmod, chown, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ProjectedFile } from './projection.ts';

const DATA = '..data';

async function current(folder: string): Promise<string | null> {
  try {
    return await readlink(join(folder, DATA));
  } catch {
    return null;
  }
}

async function same(folder: string, files: ReadonlyMap<string, ProjectedFile>): Promise<boolean> {
  const data = await current(folder);
  if (data === null) return false;
  const names = await readdir(join(folder, data), { recursive: true, withFileTypes: true });
  if (names.filter((entry) => entry.isFile()).length !== files.size) return false;
  for (const [path, { content }] of files) {
    const old = await readFile(join(folder, data, path)).catch(() => null);
    if (old === null || !old.equals(content)) return false;
  }
  return true;
}

/**
 * Writes the files of a projected volume so that a reader sees all of the old ones or all of the new ones: they lie in a
 * folder of their own, to which the link `..data` points (pkg/volume/util/atomic_writer.go).
 * @param group gid that owns the files and may read them; null leaves them to root.
 * @returns whether anything changed.
 */
export async function writeAtomically(
  folder: string,
  files: ReadonlyMap<string, ProjectedFile>,
  group: number | null,
): Promise<boolean> {
  if (await same(folder, files)) return false;
  const old = await current(folder);
  // Not join(), which would make it the folder above.
  const fresh = await mkdtemp(`${folder}/..`);
  await chmod(fresh, 0o755);
  for (const [path, { content, mode }] of files) {
    const target = join(fresh, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, content);
    await chmod(target, group === null ? mode : mode | 0o440);
    if (group !== null) await chown(target, 0, group);
  }
  const link = join(folder, '..data_tmp');
  await symlink(fresh.slice(folder.length + 1), link);
  await rename(link, join(folder, DATA));
  for (const top of new Set([...files.keys()].map((path) => path.split('/')[0] as string))) {
    await symlink(join(DATA, top), join(folder, top)).catch((err: NodeJS.ErrnoException) => {
      if (err.code !== 'EEXIST') throw err;
    });
  }
  if (old !== null) await rm(join(folder, old), { recursive: true, force: true });
  return true;
}
