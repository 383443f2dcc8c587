import type { Lab } from '../lab.ts';

/** Starts a worker again with a front between it and the routers. */
export async function behindFront(lab: Lab, worker: string): Promise<void> {
  const front = await lab.openFront(worker);
  await lab.get(worker).stop(lab.clock);
  lab.get(worker).start({ args: ['--advertise', front.address] });
}

/** Starts it again without. */
export async function withoutFront(lab: Lab, worker: string): Promise<void> {
  lab.frontOf(worker).close();
  await lab.get(worker).stop(lab.clock);
  lab.get(worker).start();
}
