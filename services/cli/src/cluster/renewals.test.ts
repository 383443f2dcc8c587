import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { JoinedDir } from './joined-dir.ts';
import { enterCluster } from './membership.ts';
import { Renewals } from './renewals.ts';
import { JoinRig } from './testing/join-rig.ts';
import { formatToken } from './tokens.ts';

/** Ages the certificate: twenty days of a clock would be as many steps of its timers. */
function makeDue(dir: JoinedDir): void {
  writeFileSync(dir.file('membership.json'), JSON.stringify({ ...dir.membership(), issuedAtMs: 0 }));
}

test('a certificate is renewed in time, once; a head that is away is asked every ten minutes', async () => {
  const rig = await JoinRig.start();
  const home = mkdtempSync(join(tmpdir(), 'guildhall-renewals-'));
  const wish = { url: `https://127.0.0.1:${rig.port}`, token: formatToken(await rig.token()), id: null };
  const rest = { memoryMib: null, threads: null, advertise: null, port: 1, failureDomain: null, model: null };
  const { dir, lock } = await enterCluster({ ...wish, ...rest }, { GUILDHALL_HOME: home }, rig.clock);
  const events: string[] = [];
  let renewed = 0;
  const renewals = new Renewals(dir, rig.clock, {
    event: (message) => void events.push(message),
    onRenewed: async () => void (renewed += 1),
  });
  try {
    await renewals.check();
    assert.deepEqual(events, []);
    const first = dir.membership().certificate;
    makeDue(dir);
    await rig.clock.advance(10_000);
    await renewals.check();
    await renewals.check();
    assert.equal(renewed, 1);
    assert.notEqual(dir.membership().certificate, first);

    await rig.stopServer();
    makeDue(dir);
    await renewals.check();
    assert.match(events.at(-1) ?? '', /not renewed: .*cannot be reached/);
    const said = events.length;
    await rig.clock.advance(9 * 60_000);
    await renewals.check();
    assert.equal(events.length, said);
    await rig.clock.advance(61_000);
    await renewals.check();
    assert.equal(events.length, said + 1);
    assert.equal(renewed, 1);
  } finally {
    await renewals.stop();
    lock.release();
    await rig.stop();
    rmSync(home, { recursive: true, force: true });
  }
});
