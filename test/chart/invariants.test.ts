import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CASES } from './cases.ts';
import { networkPolicies } from './network.ts';
import { render } from './render.ts';
import {
  chosen,
  disjoint,
  lifecycle,
  names,
  ports,
  references,
  restricted,
  type Rule,
  scalers,
  selectors,
  tokens,
} from './rules.ts';
import { schemaError } from './schemas.ts';

const RULES: Record<string, Rule> = {
  restricted,
  tokens,
  selectors,
  disjoint,
  chosen,
  ports,
  scalers,
  references,
  names,
  lifecycle,
  networkPolicies,
};

for (const given of CASES) {
  test(`objects of a release with ${given.name} are right`, async () => {
    const objects = await render(given.values, { profiles: given.profiles ?? [] });
    const found = Object.entries(RULES).flatMap(([name, rule]) =>
      rule(objects, given).map((fault) => `${name}: ${fault}`),
    );
    for (const object of objects) {
      const error = await schemaError(object);
      if (error !== null) found.push(`${object.kind} ${object.metadata.name}: ${error}`);
    }
    assert.deepEqual(found, []);
    assert.ok(objects.length > 20, `${objects.length} objects`);
  });
}
