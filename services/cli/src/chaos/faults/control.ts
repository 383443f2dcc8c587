import { fail } from '@guildhall/common';
import { dropLarge, droppedAt } from '../../net/impairments.ts';
import type { Fault } from '../fault.ts';
import type { Lab } from '../lab.ts';

const WAIT_MS = 40_000;

/** Resolves when `check` holds. Throws `deadline_exceeded` when it does not come to that. */
async function until(lab: Lab, what: string, check: () => boolean): Promise<void> {
  const deadline = lab.clock.monotonicMs() + WAIT_MS;
  while (!check()) {
    if (lab.clock.monotonicMs() > deadline) throw fail('deadline_exceeded', `waited ${WAIT_MS} ms for ${what}`);
    await lab.clock.sleep(20);
  }
}

function leaderOf(lab: Lab): string {
  const leader = lab.probe.leader();
  if (leader === null) throw fail('internal', 'no controller leads');
  return leader;
}

async function secondController(lab: Lab): Promise<void> {
  lab.addController('controller-2');
  await lab.get('controller-2').listening();
}

/** Faults of controllers and routers. */
export const CONTROL_FAULTS: Fault[] = [
  {
    name: 'controller-killed',
    about:
      'a worker is killed, and the leading controller between its plan and the publication of it; a second one runs',
    expected: 'the other controller takes the lead and publishes a placement of its own',
    lost: ['expert-1'],
    prepare: secondController,
    strike: async (lab) => {
      const leader = leaderOf(lab);
      // A placement is the largest thing that a controller sends: it has planned when one is lost on the way.
      dropLarge(lab.network, lab.host(leader), lab.host('redis'), lab.probe.placementBytes);
      await lab.get('expert-1').kill();
      await until(lab, 'a placement to be published', () => droppedAt(lab.network, lab.host(leader)) > 0);
      await lab.get(leader).kill();
    },
    cleanUp: async (lab) => await lab.remove('controller-2'),
  },
  {
    name: 'two-controllers',
    about: 'the leading controller is stopped until another leads, then goes on as a worker is killed',
    expected: 'its lock has a newer owner: whatever it still publishes is refused',
    lost: ['expert-1'],
    prepare: secondController,
    strike: async (lab) => {
      const first = leaderOf(lab);
      lab.get(first).signal('SIGSTOP');
      await until(lab, 'another controller to lead', () => ![null, first].includes(lab.probe.leader()));
    },
    heal: async (lab) => {
      for (const controller of lab.all('controller-')) controller.signal('SIGCONT');
      await lab.get('expert-1').kill();
    },
    cleanUp: async (lab) => await lab.remove('controller-2'),
  },
  {
    name: 'router-killed',
    about: 'SIGKILL to one of two routers; it does not come back',
    expected: 'the gateway goes on with its streams on the other router, from the tokens that were sent',
    lost: [],
    prepare: async (lab) => {
      lab.addRouter('router-2');
      await lab.get('router-2').listening();
    },
    strike: async (lab) => await lab.get('router-1').kill(),
    cleanUp: async (lab) => await lab.remove('router-2'),
  },
];
