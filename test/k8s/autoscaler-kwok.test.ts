import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { CoreV1Api } from '@kubernetes/client-node';
import { loadConfig, type Logger, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { type ControllerApp, controllerSchema, startController } from '@guildhall/controller';
import { type AutoscalerStatus, parseAutoscalerStatus } from '@guildhall/controller/autoscaler';
import { Fleet } from './controller/fleet.ts';
import { addNodes, Release } from './controller/rig.ts';
import { type ControlPlane, startControlPlane } from './index.ts';

const namespace = 'default';
/** Drains, pods and a busy machine take their time. */
const PATIENCE_MS = 150_000;
let plane: ControlPlane;
let release: Release;
let fleet: Fleet;
let app: ControllerApp;
let folder: string;
let kubeconfig: string | undefined;
const say = (line: string): void => void process.stdout.write(`  ${line}\n`);

/** What the controller logs, for when a test fails. */
const lines: string[] = [];
function listening(): Logger {
  const note = (facts: unknown, text?: unknown): void => void lines.push(`${JSON.stringify(facts)} ${String(text)}`);
  return Object.assign(silentLogger(), { info: note, warn: note, error: note });
}

/** The policy in force; the controller reads it again for each evaluation. */
function setPolicy(given: object = {}): void {
  const policy = {
    mode: 'active',
    groups: [{ name: 'all', deployment: release.experts, min: 1, max: 4 }],
    routers: { deployment: release.routers, min: 2, max: 2 },
    evaluateMs: 500,
    warmUpMs: 0,
    scaleDownAfterMs: 4000,
    foreignHoldMs: 1000,
    pendingTimeoutMs: 5000,
    ...given,
  };
  writeFileSync(join(folder, 'policy.json'), JSON.stringify(policy));
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'guildhall-autoscaler-'));
  plane = await startControlPlane({ controllers: true, scheduler: true, kwok: true, say });
  await addNodes(plane, 3);
  release = await Release.install(plane, 'scaled', 1);
  setPolicy();
  fleet = new Fleet(release);
  await fleet.start();
  await release.readyPods('expert', 1);
  app = await controller();
  await wait(() => release.placed() !== '', 'the first placement');
});

after(async () => {
  await app?.stop();
  await fleet?.stop();
  await release?.close();
  await plane?.stop();
  if (kubeconfig === undefined) delete process.env['KUBECONFIG'];
  else process.env['KUBECONFIG'] = kubeconfig;
  rmSync(folder, { recursive: true, force: true });
});

/** What a test leaves behind that the next one must not find. */
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0)) await step();
  fleet.tells = true;
});

/** A controller with the rights of the chart's service account and no others. */
async function controller(): Promise<ControllerApp> {
  const config = await plane.serviceAccountConfig(namespace, `${release.fullname}-controller`);
  kubeconfig ??= process.env['KUBECONFIG'];
  process.env['KUBECONFIG'] = plane.writeKubeconfig('autoscaler', config.getCurrentUser()?.token ?? '');
  const at = ['--redis', release.redis.url, '--cluster', release.clusterName, '--id', 'controller-1'];
  const on = ['--kubernetes', 'on', '--namespace', namespace, '--release', release.name, '--settle-ms', '300'];
  const rest = ['--lease-name', `${release.fullname}-controller`, '--autoscaler-policy', join(folder, 'policy.json')];
  return startController(loadConfig(controllerSchema, { argv: [...at, ...on, ...rest], env: {} }), {
    logger: listening(),
    clock: systemClock,
    onFatal: (err) => assert.fail(String(err)),
  });
}

async function status(): Promise<AutoscalerStatus | null> {
  // On a busy machine Redis may take longer than a command waits.
  const text = await release.cluster.redis.get(release.cluster.keys.status('autoscaler')).catch(() => null);
  return text === null ? null : parseAutoscalerStatus(text);
}

/** `check`, and when it does not come true what the autoscaler says of itself. */
async function wait<T>(check: () => T | Promise<T>, what: string): Promise<Exclude<T, false | null | undefined>> {
  try {
    return await eventually(check, what, PATIENCE_MS);
  } catch (err) {
    const now = await status();
    say(JSON.stringify({ what, blind: now?.blind, plan: now?.plan, demand: now?.view?.demand, done: now?.carriedOut }));
    say(JSON.stringify(now?.view?.workloads));
    say(lines.splice(0).slice(-30).join('\n  '));
    throw err;
  }
}

function said(holds: (status: AutoscalerStatus) => boolean, what: string): Promise<AutoscalerStatus> {
  return wait(async () => {
    const now = await status();
    return now !== null && holds(now) ? now : null;
  }, what);
}

function replicas(count: number): Promise<boolean> {
  return wait(async () => (await release.replicas(release.experts)) === count, `${count} replicas`);
}

const holdsOf = ({ plan }: AutoscalerStatus): string[] =>
  plan?.decisions.find(({ workload }) => workload === 'all')?.holds.map(({ reason }) => reason) ?? [];

test('a load of more than twice as much: three workers by the real scheduler, then one again, drained one by one', async () => {
  fleet.ask(5);
  fleet.work = 1.6;
  await replicas(3);
  await release.readyPods('expert', 3);
  await wait(() => release.placed().split(',').length === 3, 'a placement on all three');
  const at = await said(({ plan }) => plan?.decisions[0]?.utilisation !== null, 'what it sees');
  assert.equal(at.plan?.decisions[0]?.desired, 3);
  fleet.work = 0.2;
  await replicas(1);
  await release.readyPods('expert', 1);
  assert.deepEqual(fleet.gaps, [], 'every expert was held all the time');
  const log = await release.cluster.eventLog.read();
  const told = log.filter(({ kind }) => kind === 'autoscaler').map(({ details }) => details['reason']);
  assert.deepEqual(new Set(told), new Set(['load', 'superfluous']));
  const drained = log.filter(({ kind }) => kind === 'drain_done').length;
  assert.equal(drained, 2, 'both were drained before they went');
  const { items } = await plane.kubeConfig().makeApiClient(CoreV1Api).listNamespacedEvent({ namespace });
  assert.ok(
    items.some(({ reason, involvedObject }) => reason === 'Autoscaled' && involvedObject.name === release.experts),
  );
});

test('kubectl scale is left alone for a while and told; then the load decides again', async () => {
  setPolicy({ foreignHoldMs: 6000 });
  await plane.kubectl(['scale', 'deployment', release.experts, '--replicas=2']);
  const now = await said((one) => holdsOf(one).includes('foreign_writer'), 'that somebody else has written');
  assert.ok(now.plan?.alarms.some(({ reason }) => reason === 'foreign_writer'));
  assert.equal(await release.replicas(release.experts), 2);
  await replicas(1);
});

test('missing metrics keep everything, and are told', async () => {
  setPolicy();
  fleet.work = 1.1;
  await replicas(2);
  await release.readyPods('expert', 2);
  fleet.tells = false;
  fleet.work = 0;
  const now = await said((one) => holdsOf(one).includes('no_metrics'), 'that metrics are missing');
  assert.ok(now.plan?.alarms.some(({ reason }) => reason === 'no_metrics'));
  assert.equal(await release.replicas(release.experts), 2);
  fleet.tells = true;
  await replicas(1);
});

test('the annotation pauses it', async () => {
  const key = 'guildhall.dev/autoscale';
  undo.push(() => plane.kubectl(['annotate', 'deployment', release.experts, `${key}-`]));
  await plane.kubectl(['annotate', 'deployment', release.experts, `${key}=paused`]);
  fleet.work = 1.6;
  await said((one) => holdsOf(one).includes('paused'), 'the pause');
  assert.equal(await release.replicas(release.experts), 1);
  fleet.work = 0.2;
  await plane.kubectl(['annotate', 'deployment', release.experts, `${key}-`]);
  await said((one) => !holdsOf(one).includes('paused'), 'the end of the pause');
});

test('machines are full: it is told, and given up when it is not needed any more', async () => {
  const nodes = ['node-0', 'node-1', 'node-2'];
  undo.push(() => Promise.all(nodes.map((node) => plane.kubectl(['uncordon', node]))));
  for (const node of nodes) await plane.kubectl(['cordon', node]);
  fleet.work = 1.0;
  await replicas(2);
  await said(({ plan }) => plan?.alarms.some(({ reason }) => reason === 'unschedulable') === true, 'the alarm');
  fleet.work = 0.2;
  await replicas(1);
  assert.deepEqual(fleet.gaps, []);
});

test('the whole model goes to zero without requests, and wakes for one that is held', async () => {
  setPolicy({ scaleToZero: { enabled: true, idleMs: 3000 } });
  fleet.work = 0;
  fleet.ask(0);
  await replicas(0);
  await wait(async () => (await release.replicas(release.routers)) === 0, 'no routers');
  await said(({ plan }) => plan?.state === 'asleep', 'that it sleeps');
  fleet.ask(1, 1);
  await replicas(1);
  await release.readyPods('expert', 1);
  await release.readyPods('router', 2);
  fleet.ask(1, 0);
  await said(({ plan }) => plan?.state === 'awake', 'that it is awake');
});
