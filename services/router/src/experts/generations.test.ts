import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import fc from 'fast-check';
import type { FakeExpert } from '../../../../test/fakes/fake-expert.ts';
import { choices, DispatchRig } from '../testing/dispatch-rig.ts';
import { ReferenceBuffers } from '../testing/reference-buffers.ts';

/** What a worker says in Redis, which may lag behind what runs, and what it says in its hello, which is what runs. */
interface Replacement {
  worker: 0 | 1;
  says: 'ours' | 'another checkpoint' | 'another class';
  is: 'ours' | 'another checkpoint' | 'another class';
}

const GENERATIONS = ['ours', 'another checkpoint', 'another class'] as const;

const replacement: fc.Arbitrary<Replacement> = fc.record({
  worker: fc.constantFrom(0, 1),
  says: fc.constantFrom(...GENERATIONS),
  is: fc.constantFrom(...GENERATIONS),
});

function fieldsOf(rig: DispatchRig, generation: Replacement['says']): { fingerprint: string; numericsId: string } {
  const { modelFingerprint, numericsId } = rig.identity;
  return {
    fingerprint: generation === 'another checkpoint' ? 'the next model' : modelFingerprint,
    numericsId: generation === 'another class' ? 'the next class' : numericsId,
  };
}

function memberOf({ id, incarnation, address }: FakeExpert, said: { fingerprint: string; numericsId: string }): object {
  const { fingerprint: modelFingerprint, numericsId } = said;
  return { id, incarnation, address, modelFingerprint, numericsId };
}

test('whatever workers are replaced by, under their ids and while steps run, no row goes to another generation', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(replacement, { minLength: 1, maxLength: 4 }), async (replacements) => {
      // The third stays, so that every step can be computed.
      await DispatchRig.run({ workers: [{}, {}, {}] }, async (rig) => {
        await rig.covered();
        const now = rig.workers.map((worker) => ({ worker, said: fieldsOf(rig, 'ours') }));
        const foreign: FakeExpert[] = [];
        for (const { worker: index, says, is } of replacements) {
          now[index]?.worker.die();
          const next = await rig.restart(`fake-${index + 1}`, fieldsOf(rig, is));
          now[index] = { worker: next, said: fieldsOf(rig, says) };
          if (is !== 'ours') foreign.push(next);
          const members = now.map(({ worker, said }) => control.Member.fromPartial(memberOf(worker, said)));
          rig.topology.setMembers(
            members.map((one) => ({ kind: 'expert', value: control.Member.encode(one).finish() })),
          );
          const linked = rig.topology.links.all().some(({ id }) => id === next.id);
          assert.equal(linked && says !== 'ours', false, 'a worker that says that it is foreign is not connected to');
          await rig.layer(new ReferenceBuffers(choices(12), 8));
          // The hello decides where the list is wrong; then the refused link is there, and gets nothing either.
          if (says === 'ours' && is !== 'ours')
            await eventually(
              () => !/^(not connected yet)?$/.test(rig.topology.links.get(next.id)?.problem ?? ''),
              'the refusal',
            );
          await rig.layer(new ReferenceBuffers(choices(12), 8), 1);
        }
        assert.deepEqual(
          foreign.flatMap(({ calls }) => calls),
          [],
        );
      });
    }),
    { numRuns: 12 },
  );
});
