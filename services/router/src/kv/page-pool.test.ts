import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PAGE_TOKENS, type PageId, PagePool, pagesFor } from './page-pool.ts';
import { PageTable } from './page-table.ts';

test('pages come from 0 up and go back', () => {
  const pool = new PagePool(4);
  const pages = pool.allocate(3);
  assert.deepEqual(pages, [0, 1, 2]);
  assert.equal(pool.numFree, 1);
  assert.equal(pool.can(2), false);
  assert.throws(() => pool.allocate(2), { code: 'out_of_pages' });
  pool.free(pages);
  assert.equal(pool.numFree, 4);
  pool.checkIntegrity([]);
});

test('a shared page is free after its last reference', () => {
  const pool = new PagePool(2);
  const [page] = pool.allocate(1) as [PageId];
  pool.share(page);
  pool.free([page]);
  assert.equal(pool.references(page), 1);
  assert.equal(pool.numFree, 1);
  pool.free([page]);
  assert.equal(pool.numFree, 2);
  assert.throws(() => pool.free([page]), { code: 'integrity' });
  assert.throws(() => pool.share(page), { code: 'integrity' });
});

test('the integrity check finds leaked, double and foreign pages', () => {
  const pool = new PagePool(4);
  const pages = pool.allocate(2);
  assert.throws(() => pool.checkIntegrity([]), { code: 'integrity' });
  assert.throws(() => pool.checkIntegrity([{ pages }, { pages }]), { code: 'integrity' });
  assert.throws(() => pool.checkIntegrity([{ pages: [...pages, 3 as PageId] }]), { code: 'integrity' });
  pool.checkIntegrity([{ pages }]);
});

test('an empty pool is refused', () => {
  assert.throws(() => new PagePool(0), { code: 'config_invalid', field: 'numPages' });
});

test('property: after any operations free + used = total and no page is in two tables', () => {
  const command = fc.oneof(
    fc.record({ kind: fc.constant('grow' as const), table: fc.nat(5), tokens: fc.nat(700) }),
    fc.record({ kind: fc.constant('release' as const), table: fc.nat(5) }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 24 }), fc.array(command, { maxLength: 60 }), (numPages, commands) => {
      const pool = new PagePool(numPages);
      const tables = Array.from({ length: 6 }, () => new PageTable());
      for (const step of commands) {
        const table = tables[step.table] as PageTable;
        if (step.kind === 'release') table.release(pool);
        else if (pool.can(table.missing(step.tokens))) table.grow(pool, step.tokens);
        else assert.throws(() => table.grow(pool, step.tokens), { code: 'out_of_pages' });
        const used = tables.flatMap((t) => [...t.pages]);
        assert.equal(new Set(used).size, used.length);
        assert.equal(used.length + pool.numFree, numPages);
        assert.deepEqual([...table.ids()], [...table.pages]);
        pool.checkIntegrity(tables);
      }
    }),
  );
});

test('a table grows by whole pages', () => {
  const pool = new PagePool(64);
  const table = new PageTable();
  for (let tokens = 0; tokens <= 20 * PAGE_TOKENS; tokens += 17) {
    table.grow(pool, tokens);
    assert.equal(table.numPages, pagesFor(tokens));
    assert.ok(table.capacity >= tokens);
    assert.equal(table.missing(tokens), 0);
  }
});
