import assert from 'node:assert/strict';
import { test } from 'node:test';
import { panelQueries } from './dashboard-queries.ts';
import { isKnown, namesIn, problemsOf } from './metric-names.ts';

const queries = panelQueries();

test('there are dashboards with panels', () => {
  const boards = new Set(queries.map(({ dashboard }) => dashboard));
  for (const name of ['overview', 'api', 'experts', 'kv', 'autoscaling']) assert.ok(boards.has(name), name);
});

test('panels name metrics and labels that exist, of one release', () => {
  for (const { dashboard, panel, expr } of queries) {
    const where = `${dashboard}: ${panel}`;
    assert.deepEqual(problemsOf(expr), [], where);
    assert.deepEqual(
      namesIn(expr).filter((name) => !isKnown(name)),
      [],
      where,
    );
    for (const [, matchers = ''] of expr.matchAll(/\{([^}]*)\}/g))
      assert.match(matchers, /namespace="\$namespace",release="\$release"/, where);
  }
});
