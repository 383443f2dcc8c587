import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { mustKnow } from '../catalogue/models.ts';
import { Evaluator } from './evaluate.ts';
import { problemsOf } from './problems.ts';
import { candidates, search } from './search.ts';
import { machine, request } from './testing/requests.ts';

describe('a plan', () => {
  it('has every expert twice on the workers and fits every machine', () => {
    const { chosen } = search(request({ machines: [machine({ kind: 'h100', count: 16, network: '100Gbit' })] }));
    assert.deepEqual(chosen.shortfalls, []);
    assert.equal(chosen.candidate.copies, 2);
    const { print, config } = chosen.layout.model;
    const held = chosen.workers.reduce(
      (sum, { numExperts }, i) => sum + numExperts * (chosen.layout.groups[i]?.count ?? 0),
      0,
    );
    assert.ok(held >= 2 * config.numLayers * config.moe.numExperts);
    for (const memory of chosen.workers) assert.ok(memory.total <= memory.limit);
    assert.ok(
      chosen.router !== null &&
        chosen.router.total <= chosen.router.limit &&
        chosen.router.weights === print.denseBytes,
    );
  });

  it('says what does not fit, and what to do', () => {
    const asked = request({ machines: [machine({ kind: 'h100', count: 2 })] });
    const { chosen } = search(asked);
    assert.deepEqual(chosen.shortfalls, ['expert_memory']);
    const problem = problemsOf(asked, chosen).find(({ code }) => code === 'expert_memory');
    assert.match(problem?.what ?? '', /30720 experts take 371 GiB/);
    assert.match(problem?.remedy ?? '', /--weights q4/);
  });

  it('chooses fewer bits where only those fit, and says so of the others', () => {
    const asked = request({
      machines: [machine({ kind: 'h100', count: 5 })],
      weights: ['bf16', 'fp8', 'q4'],
      copies: [1],
    });
    const plan = search(asked);
    assert.equal(plan.chosen.candidate.weights, 'q4');
    assert.ok(
      plan.rejected.some(({ evaluation, why }) => evaluation.candidate.weights === 'bf16' && /do not fit/.test(why)),
    );
  });

  it('says that figures for cards are predictions only, and nothing of the kind for CPUs', () => {
    const codes = (asked: ReturnType<typeof request>): string[] =>
      problemsOf(asked, search(asked).chosen).map(({ code }) => code);
    assert.ok(codes(request()).includes('no_cuda_backend'));
    const cpus = request({ machines: [machine({ kind: 'cpu-12ch', count: 4 })], weights: ['q4'] });
    assert.ok(!codes(cpus).includes('no_cuda_backend'));
  });

  it('takes the cheapest machines that meet the targets', () => {
    const cheap = machine({ kind: 'cpu-12ch', count: 8, price: 1, network: '25Gbit' });
    const dear = machine({ kind: 'cpu-12ch', count: 8, price: 5, network: '25Gbit' });
    const asked = request({ machines: [dear, cheap], weights: ['q4'] }, { sloItlMs: 2000, users: 2 });
    const { chosen } = search(asked);
    assert.deepEqual(chosen.shortfalls, []);
    assert.equal(chosen.candidate.router.pricePerHour, 1);
    assert.ok(chosen.candidate.workers.every(({ machine: { pricePerHour } }) => pricePerHour === 1));
  });

  it('names the target that nothing meets', () => {
    const asked = request({}, { sloTtftMs: 1 });
    const { chosen } = search(asked);
    assert.deepEqual(chosen.shortfalls, ['ttft']);
    assert.match(problemsOf(asked, chosen).find(({ code }) => code === 'ttft')?.what ?? '', /first token comes after/);
  });

  it('keeps to roles and to fixed numbers', () => {
    const machines = [
      machine({ kind: 'h100', count: 3, role: 'router' }),
      machine({ kind: 'cpu-12ch', count: 8, role: 'expert' }),
    ];
    for (const candidate of candidates(request({ machines, routers: 2, experts: ['remote'] }))) {
      assert.equal(candidate.router.kind, 'h100');
      assert.equal(candidate.routers, 2);
      assert.ok(candidate.workers.every(({ machine: { kind } }) => kind === 'cpu-12ch'));
    }
  });
});

describe('any plan', () => {
  const kinds = fc.constantFrom('h100', 'l40s', 'cpu-12ch', 'cpu-8ch');
  const models = fc.constantFrom('qwen3.5-397b-a17b', 'qwen3.5-35b-a3b', 'tiny');
  const asked = fc.record({
    kind: kinds,
    model: models,
    count: fc.integer({ min: 1, max: 12 }),
    weights: fc.constantFrom('bf16' as const, 'fp8' as const, 'q4' as const),
    users: fc.integer({ min: 1, max: 64 }),
    context: fc.integer({ min: 1024, max: 65_536 }),
  });
  const planFor = (o: {
    kind: string;
    model: string;
    count: number;
    weights: 'bf16' | 'fp8' | 'q4';
    users: number;
    context: number;
  }) =>
    search(
      request(
        {
          model: mustKnow(o.model),
          machines: [machine({ kind: o.kind, count: o.count, network: '100Gbit' })],
          weights: [o.weights],
        },
        { users: o.users, context: o.context },
      ),
    );

  it('never takes more memory or more machines than there are', () => {
    fc.assert(
      fc.property(asked, (o) => {
        const { chosen } = planFor(o);
        if (chosen.router === null) return;
        assert.ok(
          chosen.router.total <= chosen.router.limit * (1 + 1e-9),
          `${chosen.router.total} of ${chosen.router.limit}`,
        );
        for (const memory of chosen.workers) assert.ok(memory.total <= memory.limit);
        assert.ok(chosen.slots <= o.count || (o.count === 1 && o.kind.startsWith('cpu')));
        const share = chosen.layout.groups.reduce((sum, group) => sum + group.share * group.count, 0);
        if (chosen.layout.groups.length > 0) assert.ok(Math.abs(share - 1) < 1e-9);
      }),
      { numRuns: 8 },
    );
  });

  it('serves no less with more machines', () => {
    fc.assert(
      fc.property(asked, (o) => {
        const best = (count: number): number => {
          const one = request(
            { model: mustKnow(o.model), machines: [machine({ kind: o.kind, count })], weights: [o.weights] },
            { users: o.users, context: o.context },
          );
          const evaluator = new Evaluator(one);
          return Math.max(
            0,
            ...[...candidates(one)].map((c) => evaluator.evaluate(c).performance?.outputTokensPerSecond ?? 0),
          );
        };
        assert.ok(best(o.count + 1) >= best(o.count) * (1 - 1e-6));
      }),
      { numRuns: 8 },
    );
  });

  it('holds no more users, and is no faster, with longer contexts', () => {
    fc.assert(
      fc.property(asked, (o) => {
        const at = (context: number) => {
          const one = request(
            {
              model: mustKnow(o.model),
              machines: [machine({ kind: o.kind, count: o.count })],
              weights: [o.weights],
              experts: ['remote'],
            },
            { users: o.users, context },
          );
          const [candidate] = candidates(one);
          return candidate === undefined ? null : new Evaluator(one).evaluate(candidate);
        };
        const [short, long] = [at(o.context), at(2 * o.context)];
        if (short?.performance == null || long?.performance == null) return;
        assert.ok(long.performance.outputTokensPerSecond <= short.performance.outputTokensPerSecond * (1 + 1e-3));
        if (o.kind === 'h100') assert.ok(long.userCapacity <= short.userCapacity);
      }),
      { numRuns: 8 },
    );
  });
});
