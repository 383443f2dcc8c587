import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Machine } from '../harness/namespaces.ts';
import { until } from '../harness/wait.ts';
import type { PodSpec, RenderedChart } from './rendered-chart.ts';
import { type Bind, type ImageDefaults, type PodFacts, runtimeConfig } from './runtime-config.ts';

/** What a container is made from. */
export interface PodContainerOptions {
  machine: Machine;
  chart: RenderedChart;
  pod: PodSpec;
  facts: PodFacts;
  /** Unpacked image, and what its configuration says. */
  rootfs: string;
  image: ImageDefaults;
  /** Folder for its files. */
  scratch: string;
  /** Lines of /etc/hosts. */
  hosts: readonly string[];
}

/** A pod's container, run by runc from the image in the network of a machine of the tests. */
export class PodContainer {
  readonly id: string;
  output = '';
  readonly #machine: Machine;
  readonly #folder: string;
  readonly #child: ChildProcess;
  #closed = false;

  private constructor(id: string, machine: Machine, folder: string, child: ChildProcess) {
    this.id = id;
    this.#machine = machine;
    this.#folder = folder;
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    child.once('close', () => (this.#closed = true));
  }

  static async start(options: PodContainerOptions): Promise<PodContainer> {
    const { machine, facts, pod, image, rootfs, scratch } = options;
    const folder = join(scratch, facts.name);
    for (const name of ['points', 'upper', 'work', 'bundle/rootfs', 'volumes'])
      mkdirSync(join(folder, name), { recursive: true });
    const binds = [...volumeFiles(options, join(folder, 'volumes')), hostsFile(options.hosts, folder)];
    for (const { target } of binds) makeMountPoint(join(folder, 'points'), target);
    writeFileSync(
      join(folder, 'bundle', 'config.json'),
      JSON.stringify(runtimeConfig(pod, facts, image, binds), null, 1),
    );
    const overlay = `lowerdir=${join(folder, 'points')}:${rootfs},upperdir=${join(folder, 'upper')},workdir=${join(folder, 'work')}`;
    const mount = ['-t', 'overlay', 'overlay', '-o', overlay, join(folder, 'bundle', 'rootfs')];
    const { code, stderr } = await machine.run('mount', mount);
    if (code !== 0) throw new Error(`mount of the image failed: ${stderr}`);
    const child = machine.spawn('runc', [...runcState(folder), 'run', '--bundle', join(folder, 'bundle'), facts.name]);
    return new PodContainer(facts.name, machine, folder, child);
  }

  /** Files under the root that the container wrote or that were made for it. */
  written(): string[] {
    return readdirSync(join(this.#folder, 'upper'), { recursive: true }).map(String);
  }

  /** Fields of /proc/PID/status of its first process, as the host sees it. */
  status(): Map<string, string> {
    const lines = readFileSync(`/proc/${this.#pid()}/status`, 'utf8').split('\n');
    return new Map(lines.map((line) => [line.split(':')[0] ?? '', line.slice(line.indexOf(':') + 1).trim()]));
  }

  /** Number of its first process on the host. */
  #pid(): number {
    const state = execFileSync('runc', [...runcState(this.#folder), 'state', this.id], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return (JSON.parse(state) as { pid: number }).pid;
  }

  /** Runs a module's text with the image's Node inside the container; what it printed. */
  async evaluate(source: string): Promise<string> {
    const node = ['/usr/local/bin/node', '--input-type=module', '--eval', source];
    const { code, stdout, stderr } = await this.#machine.run('runc', [
      ...runcState(this.#folder),
      'exec',
      this.id,
      ...node,
    ]);
    if (code !== 0) throw new Error(`${this.id}: ${stderr}`);
    return stdout.trim();
  }

  get running(): boolean {
    return !this.#closed;
  }

  /** Sends a signal to its process 1 and waits for the end. @returns the exit status. */
  async end(signal: 'TERM' | 'KILL' = 'TERM'): Promise<number | null> {
    if (this.running) {
      // It may end by itself at this moment: runc knows nothing of it then.
      spawnSync('runc', [...runcState(this.#folder), 'kill', this.id, signal]);
      await until(`${this.id} ends`, () => this.#closed);
    }
    return this.#child.exitCode;
  }
}

function runcState(folder: string): string[] {
  return ['--root', join(folder, 'runc')];
}

/** ConfigMap, Secret and emptyDir volumes as folders, with the owners and modes that a kubelet gives them. */
function volumeFiles({ chart, pod, facts }: PodContainerOptions, folder: string): Bind[] {
  const group = pod.securityContext?.fsGroup ?? 0;
  const binds: Bind[] = [];
  for (const { name, mountPath } of pod.containers[0]?.volumeMounts ?? []) {
    const volume = pod.volumes?.find((candidate) => candidate.name === name);
    if (volume === undefined) throw new Error(`no volume ${name}`);
    const source = join(folder, name);
    const write = (file: string, text: string, mode: number): void => {
      mkdirSync(source, { recursive: true });
      writeFileSync(join(source, file), text);
      chmodSync(join(source, file), mode);
      chownSync(join(source, file), 0, group);
    };
    const maps = [volume.configMap, ...(volume.projected?.sources ?? []).map(({ configMap }) => configMap)];
    for (const map of maps.flatMap((one) => one ?? []))
      for (const [file, text] of Object.entries(chart.configMap(map.name))) write(file, text, 0o644);
    for (const { key, path } of volume.secret?.items ?? [])
      write(path, secretOf(facts, volume.secret?.secretName ?? '', key), volume.secret?.defaultMode ?? 0o644);
    const writable = volume.emptyDir !== undefined;
    if (writable) {
      mkdirSync(source, { recursive: true });
      chownSync(source, 0, group);
      chmodSync(source, 0o2777);
    }
    binds.push({ source, target: mountPath, writable });
  }
  return binds;
}

function secretOf({ secrets }: PodFacts, name: string, key: string): string {
  const value = secrets[name]?.[key];
  if (value === undefined) throw new Error(`no secret ${name}, key ${key}`);
  return value;
}

function hostsFile(lines: readonly string[], folder: string): Bind {
  const source = join(folder, 'hosts');
  writeFileSync(source, `127.0.0.1 localhost\n${lines.join('\n')}\n`);
  return { source, target: '/etc/hosts', writable: false };
}

/** Mount points are in a layer of their own, so that what a container writes is all that the upper layer has. */
function makeMountPoint(points: string, target: string): void {
  if (target !== '/etc/hosts') return void mkdirSync(join(points, target), { recursive: true });
  mkdirSync(dirname(join(points, target)), { recursive: true });
  writeFileSync(join(points, target), '');
}
