import { readFileSync } from 'node:fs';

/** Memory of a process as the kernel counts it, bytes. */
export interface Resident {
  /** Its own: heap, stacks, native memory. */
  anonymous: number;
  /** Pages of files, which are given back when memory is short. */
  files: number;
}

/** Resident memory of a process; Linux only. */
export function residentBytes(pid: number): Resident {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (name: string): number => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? NaN);
  return { anonymous: kib('RssAnon'), files: kib('RssFile') };
}
