import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { planCommand } from '../commands/plan.ts';
import { requestOf } from './flags.ts';
import type { PlanRequest } from './request.ts';

/** What the command would plan with these flags. */
function asked(...args: string[]): PlanRequest {
  const command = planCommand();
  command.parseOptions(args);
  return requestOf(command.opts(), {});
}

const ONE = ['--machine', 'kind=h100'];

describe('flags of a plan', () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-plan-'));
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('say what cannot be read, and what it may be', () => {
    const cases: [string[], RegExp][] = [
      [['--machine', 'kind=nothing'], /kind nothing is none of h100/],
      [['--machine', 'kind=h100,memory=much'], /memory 'much' is not a size/],
      [['--machine', 'kind=h100,network=25'], /network '25' is not a link/],
      [['--machine', 'h100'], /'h100' is not name=value/],
      [['--machine', 'kind=h100,colour=red'], /colour/],
      [['--machine', 'kind=h100,count=0'], /count/],
      [[...ONE, '--prefix-hit', '2'], /--prefix-hit/],
      [[...ONE, '--context', '10'], /--context 10 is less than/],
      [[...ONE, '--slo-itl', 'soon'], /slo-itl 'soon'/],
      [[...ONE, '--weights', 'q5'], /--weights/],
      [[], /no machines: say --machine/],
    ];
    for (const [args, message] of cases) assert.throws(() => asked(...args), message, args.join(' '));
  });

  it('take machines from a list, in YAML or JSON', () => {
    const file = join(dir, 'machines');
    for (const text of [
      '- kind: h100\n  gpus: 8\n  price: 24\n',
      '{"machines":[{"kind":"h100","gpus":8,"price":24}]}',
    ]) {
      writeFileSync(file, text);
      const [machine] = asked('--machines', file).machines;
      assert.deepEqual([machine?.slots, machine?.perHost, machine?.pricePerHour], [8, 8, 3]);
    }
    writeFileSync(file, 'machines: 3');
    assert.throws(() => asked('--machines', file), /no list of machines/);
  });

  it('give a card its part of the machine, and figures that are given count as they are', () => {
    const [card, own] = asked(
      '--machine',
      'kind=h100,gpus=8,network=400Gbit',
      '--machine',
      'kind=own,memory=100GiB,bandwidth=1TB/s,flops=2TFLOPS',
    ).machines;
    assert.equal(card?.link, (400e9 / 8 / 8) * 0.94);
    assert.equal(card?.bytesPerSecond, 3.35e12 * 0.75);
    assert.deepEqual([own?.memoryBytes, own?.bytesPerSecond, own?.flopsPerSecond], [100 * 2 ** 30, 1e12, 2e12]);
  });

  it('ask for users who are always there, unless requests arrive by themselves', () => {
    assert.equal(asked(...ONE).traffic.users, 1);
    const { traffic } = asked(...ONE, '--requests-per-second', '2.5', '--slo-ttft', '2s');
    assert.deepEqual([traffic.users, traffic.requestsPerSecond, traffic.sloTtftMs], [null, 2.5, 2000]);
  });
});
