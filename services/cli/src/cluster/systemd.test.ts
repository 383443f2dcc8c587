import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DRAIN_MS } from './joined-worker.ts';
import { closedFolder, HEAD_UNIT, installUnit, renderUnit, workerUnit } from './systemd.ts';

const TEMPLATES = [HEAD_UNIT.template, workerUnit('expert-7').template];
/** Directives without which a unit would run with more than it needs. */
const HARDENED = [
  'DynamicUser=yes',
  'NoNewPrivileges=yes',
  'ProtectSystem=strict',
  'CapabilityBoundingSet=',
  'StateDirectory=guildhall',
  'UMask=0077',
  'LimitMEMLOCK=infinity',
  'Restart=on-failure',
];

let root: string;
before(() => (root = mkdtempSync(join(tmpdir(), 'guildhall-units-'))));
after(() => rmSync(root, { recursive: true, force: true }));

/** Key and value of each directive, by section. */
function parse(text: string): Map<string, string[]> {
  const sections = new Map<string, string[]>();
  let section = '';
  for (const line of text.split('\n').filter((one) => one !== '' && !one.startsWith('#'))) {
    const heading = /^\[(\w+)\]$/.exec(line)?.[1];
    if (heading === undefined) {
      assert.match(line, /^[A-Z]\w+=/, line);
      sections.get(section)?.push(line);
    } else sections.set((section = heading), []);
  }
  return sections;
}

test('units are hardened, and stop no sooner than what they run needs to drain', () => {
  for (const template of TEMPLATES) {
    const sections = parse(renderUnit(template));
    assert.deepEqual([...sections.keys()], ['Unit', 'Service', 'Install']);
    const service = sections.get('Service') ?? [];
    for (const line of HARDENED) assert.ok(service.includes(line), `${template}: ${line}`);
    const limit = Number(/^TimeoutStopSec=(\d+)$/m.exec(service.join('\n'))?.[1]);
    // A worker drains first; the head ends several services, one kind after the other.
    assert.ok(limit >= (template === HEAD_UNIT.template ? 30 : DRAIN_MS / 1000 + 15), `${template}: ${limit} s`);
  }
});

test('a unit names the Node and the checkout that installed it', () => {
  for (const template of TEMPLATES) {
    const text = renderUnit(template);
    assert.ok(text.includes(`ExecStart=${process.execPath} `), template);
    assert.ok(!text.includes('/opt/guildhall'), template);
  }
});

test('systemd understands every directive', (t) => {
  if (spawnSync('systemd-analyze', ['--version']).status !== 0) return t.skip('systemd-analyze is not installed');
  for (const template of TEMPLATES) {
    const path = join(root, template);
    writeFileSync(path, renderUnit(template));
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
  }
});

test('a checkout that the user of a unit cannot reach is found', () => {
  // mkdtemp closes its folder to others.
  assert.equal(closedFolder(join(root, 'deeper', 'file')), root);
  assert.equal(closedFolder('/usr/bin/env'), null);
});

test('installing writes the unit and a file for settings, which stays what it is', () => {
  const unit = workerUnit('expert-7');
  const first = installUnit(unit, root);
  assert.equal(first.started, false);
  const [file = '', environment = ''] = first.files;
  assert.ok(file.endsWith('/etc/systemd/system/guildhall-worker@.service'));
  assert.equal(statSync(environment).mode & 0o777, 0o600);
  writeFileSync(environment, 'GUILDHALL_LOG_LEVEL=debug\n');
  installUnit(unit, root);
  assert.equal(readFileSync(environment, 'utf8'), 'GUILDHALL_LOG_LEVEL=debug\n');
});
