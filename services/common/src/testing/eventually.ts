import { setTimeout as sleep } from 'node:timers/promises';
import { fail } from '../errors.ts';

/**
 * Waits until `check` returns something other than false, null or undefined, and returns it. The limit only stops a
 * test that would hang; no test may pass or fail by how long this takes.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  what: string,
  limitMs = 60_000,
): Promise<Exclude<T, false | null | undefined>> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const value = await check();
    if (value !== false && value !== null && value !== undefined) return value as Exclude<T, false | null | undefined>;
    if (performance.now() > endMs) throw fail('deadline_exceeded', `waited ${limitMs} ms for: ${what}`);
    await sleep(15);
  }
}
