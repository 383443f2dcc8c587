import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CONFORMANCE_FILE, type ConformanceRow } from '../../scripts/conformance.ts';
import type { World } from './world.ts';

const FILE = fileURLToPath(new URL(`../../${CONFORMANCE_FILE}`, import.meta.url));

/** Collects what was checked with which client, as a test each, and compares it with the table of the document. */
export class Conformance {
  readonly #world: () => World;
  readonly #passed: ConformanceRow[] = [];

  constructor(world: () => World) {
    this.#world = world;
  }

  /** One row: it passes when `body` does and every answer that came meanwhile has the type that the official packages declare. */
  check(client: string, feature: string, checked: string, body: (world: World) => Promise<void>): void {
    test(`${client}: ${feature}: ${checked}`, async () => {
      const world = this.#world();
      try {
        await body(world);
      } catch (error) {
        // What a client says about an answer that is not what it should be is less clear than the answer itself.
        await world.oracle.settle();
        throw error;
      }
      await world.oracle.settle();
      this.pass({ client, feature, checked });
    });
  }

  pass(row: ConformanceRow): void {
    this.#passed.push(row);
  }

  /** The table in the repository is what has just run, row by row; without `clients` that were skipped. */
  compare(skipped: readonly string[]): void {
    if (process.env['GUILDHALL_UPDATE_CONFORMANCE'] === '1') {
      assert.deepEqual(skipped, [], 'a table needs a run of all clients');
      writeFileSync(FILE, `${JSON.stringify(this.#passed, null, 2)}\n`);
      return;
    }
    const written = JSON.parse(readFileSync(FILE, 'utf8')) as ConformanceRow[];
    const expected = written.filter((row) => !skipped.includes(row.client));
    assert.deepEqual(
      this.#passed,
      expected,
      'run GUILDHALL_UPDATE_CONFORMANCE=1 node scripts/run-suites.ts compat, then npm run gen',
    );
  }
}
