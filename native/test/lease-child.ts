/** Child of core-leases.test.ts: `lease-child.ts hold FILE` keeps every core, `… contend FILE DIR ROUNDS` takes and gives one. */

import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

import { loadNative } from '../ts/index.ts';

const native = loadNative();
const [mode = '', file = '', dir = '', rounds = '0'] = process.argv.slice(2);
const fd = openSync(file, 'r+');
const leases = new native.CoreLeases(fd, 0);
closeSync(fd);

function hold(): void {
  const count = leases.cores().length;
  for (let i = 0; i < count; i++) {
    if (leases.tryTake() < 0) process.exit(1);
  }
  writeSync(1, 'held\n');
  setInterval(() => undefined, 1000);
}

/** While it holds a core, it has the marker file of that core to itself: opening it fails if another has it too. */
function contend(): void {
  for (let taken = 0; taken < Number(rounds);) {
    const core = leases.tryTake();
    if (core < 0) continue;
    taken += 1;
    const marker = join(dir, `core-${core}`);
    closeSync(openSync(marker, 'wx'));
    unlinkSync(marker);
    leases.give(core);
  }
}

if (mode === 'hold') hold();
else contend();
