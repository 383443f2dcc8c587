import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type CoreV1Api,
  PatchStrategy,
  setHeaderOptions,
  type V1Container,
  type V1Pod,
  type V1PodCondition,
} from '@kubernetes/client-node';
import type { Clock } from '@guildhall/common';
import { isCancelled } from './cancelled.ts';
import { type ContainerHost, ContainerRunner, type Launch, MissingImage, type RestartPolicy } from './container.ts';
import type { NodeResources, PodFacts } from './downward.ts';
import { containerEnvironment, MissingReference, serviceLinks } from './environment.ts';
import { hostsFile } from './hosts.ts';
import type { ImageTable } from './images.ts';
import type { PodLink, PodNetwork } from './network.ts';
import type { ClusterState } from './node-state.ts';
import type { BindMount } from './oci-spec.ts';
import { podStatus } from './pod-status.ts';
import { PodVolumes } from './pod-volumes.ts';
import { processRights } from './security.ts';

/** What a node gives its pods. */
export interface NodeServices {
  name: string;
  ip: string;
  resources: NodeResources;
  clock: Clock;
  core: CoreV1Api;
  images: ImageTable;
  network: PodNetwork;
  state: ClusterState;
  /** Folder of pods' files; in memory. */
  folder: string;
  /** Folder of containers' output, kept after pods are gone. */
  logs: string;
  /** Path of this bench's group below every cgroup controller. */
  cgroup: string;
  event(pod: V1Pod, type: 'Normal' | 'Warning', reason: string, message: string): void;
}

const RETRY_MS = 500;
/** Characters of a container's output that stand in for its last words. */
const LAST_WORDS = 2048;

/** One pod on a node, from its binding to its end. */
export class PodWorker {
  readonly uid: string;
  #pod: V1Pod;
  readonly #node: NodeServices;
  readonly #folder: string;
  readonly #volumes: PodVolumes;
  readonly #facts: PodFacts;
  readonly #stop = new AbortController();
  readonly #startedAt: Date;
  #init: ContainerRunner[] = [];
  #main: ContainerRunner[] = [];
  #link: PodLink | null = null;
  #initialized = false;
  #finished = false;
  #problem: { reason: string; message: string } | null = null;
  #conditions: readonly V1PodCondition[] = [];
  #reporting: Promise<void> | null = null;
  #dirty = false;
  #silent = false;
  #ending: Promise<void> | null = null;
  #removing: Promise<void> | null = null;
  #overdue = false;
  #released = false;
  #life: Promise<void> = Promise.resolve();

  constructor(pod: V1Pod, node: NodeServices) {
    this.uid = pod.metadata?.uid ?? '';
    this.#pod = pod;
    this.#node = node;
    this.#folder = join(node.folder, this.uid);
    this.#startedAt = new Date(node.clock.nowMs());
    this.#facts = { podIP: '', hostIP: node.ip };
    const identity = { name: this.name, uid: this.uid, serviceAccount: pod.spec?.serviceAccountName ?? 'default' };
    const source = node.state.projection(this.namespace, identity);
    const input = { pod: (): V1Pod => this.#pod, facts: this.#facts, node: node.resources, source };
    this.#volumes = new PodVolumes(join(this.#folder, 'volumes'), node.core, input);
  }

  get name(): string {
    return this.#pod.metadata?.name ?? '';
  }

  get namespace(): string {
    return this.#pod.metadata?.namespace ?? '';
  }

  get link(): PodLink | null {
    return this.#link;
  }

  /** A container of the pod by its name, or the first. */
  container(name?: string): ContainerRunner | undefined {
    const all = [...this.#main, ...this.#init];
    return name === undefined || name === '' ? all[0] : all.find(({ container }) => container.name === name);
  }

  /** Starts it. */
  start(): void {
    const host = (waiting: string) => (container: V1Container) =>
      new ContainerRunner(container, this.#hostFor(container), waiting);
    const waiting = (this.#pod.spec?.initContainers ?? []).length > 0 ? 'PodInitializing' : 'ContainerCreating';
    this.#init = (this.#pod.spec?.initContainers ?? []).map(host('PodInitializing'));
    this.#main = (this.#pod.spec?.containers ?? []).map(host(waiting));
    const { activeDeadlineSeconds } = this.#pod.spec ?? {};
    if (activeDeadlineSeconds !== undefined) {
      this.#node.clock.setTimer(activeDeadlineSeconds * 1000, () => this.#deadline());
    }
    this.#life = this.#run().catch((error: unknown) => {
      if (isCancelled(error)) return;
      this.#node.event(this.#pod, 'Warning', 'Failed', error instanceof Error ? error.message : String(error));
      this.#problem = { reason: 'KubeletError', message: String(error) };
      this.#changed();
    });
  }

  /** The object has changed: labels and annotations of mounted files, or its end is asked for. */
  update(pod: V1Pod): void {
    const old = this.#pod;
    this.#pod = pod;
    const { labels, annotations, deletionTimestamp, deletionGracePeriodSeconds } = pod.metadata ?? {};
    if (deletionTimestamp !== undefined) {
      void this.end((deletionGracePeriodSeconds ?? this.#graceSeconds) * 1000, true);
      return;
    }
    // Our own reports come back as changes, too: only what others write is of interest.
    if (pod.spec?.readinessGates !== undefined) this.#changed();
    const fields = (one: V1Pod): string => JSON.stringify([one.metadata?.labels, one.metadata?.annotations]);
    if (JSON.stringify([labels, annotations]) !== fields(old)) void this.refreshVolumes();
  }

  #deadline(): void {
    if (this.#finished || this.#ending !== null) return;
    this.#overdue = true;
    const message = 'Pod was active on the node longer than the specified deadline';
    this.#problem = { reason: 'DeadlineExceeded', message };
    void this.end(this.#graceSeconds * 1000, false);
  }

  get #graceSeconds(): number {
    return this.#pod.spec?.terminationGracePeriodSeconds ?? 30;
  }

  async #run(): Promise<void> {
    if (this.#pod.spec?.hostNetwork === true) throw new Error('hostNetwork is not supported by the test bench');
    await mkdir(this.#folder, { recursive: true });
    this.#link = await this.#node.network.attach();
    this.#facts.podIP = this.#link.ip;
    await writeFile(join(this.#folder, 'hostname'), `${this.name}\n`);
    await writeFile(join(this.#folder, 'resolv.conf'), '');
    await this.refreshHosts();
    await this.#prepareVolumes();
    if (!(await this.#initialize())) return await this.#ended();
    this.#initialized = true;
    this.#changed();
    const policy = (this.#pod.spec?.restartPolicy ?? 'Always') as RestartPolicy;
    await Promise.all(this.#main.map((runner) => runner.run(policy)));
    await this.#ended();
  }

  async #prepareVolumes(): Promise<void> {
    for (;;) {
      this.#stop.signal.throwIfAborted();
      try {
        await this.#volumes.prepare();
        this.#problem = null;
        return;
      } catch (error) {
        if (!(error instanceof MissingReference)) throw error;
        this.#node.event(this.#pod, 'Warning', 'FailedMount', error.message);
        this.#changed();
        await this.#node.clock.sleep(RETRY_MS, this.#stop.signal);
      }
    }
  }

  /** Init containers one after another; those that restart always go on beside the others. @returns false when one failed for good. */
  async #initialize(): Promise<boolean> {
    const podPolicy = this.#pod.spec?.restartPolicy ?? 'Always';
    for (const runner of this.#init) {
      if (runner.container.restartPolicy === 'Always') {
        void runner.run('Always');
        await runner.started;
      } else if ((await runner.run(podPolicy === 'Never' ? 'Never' : 'OnFailure')) !== 0) return false;
      this.#stop.signal.throwIfAborted();
    }
    return true;
  }

  /** All containers ended by themselves. */
  async #ended(): Promise<void> {
    if (this.#ending !== null) return;
    await Promise.all(this.#init.toReversed().map((runner) => runner.stop(this.#graceSeconds * 1000)));
    this.#finished = true;
    this.#changed();
    await this.#reporting;
  }

  /** Ends the pod within `graceMs`, and the object with it when that is being deleted. */
  end(graceMs: number, remove: boolean): Promise<void> {
    this.#ending ??= this.#terminate(graceMs);
    if (!remove) return this.#ending;
    this.#removing ??= this.#ending.then(async () => await this.#removeObject());
    return this.#removing;
  }

  async #terminate(graceMs: number): Promise<void> {
    this.#stop.abort();
    this.#node.event(this.#pod, 'Normal', 'Killing', 'Stopping containers');
    await Promise.all(this.#main.map((runner) => runner.stop(graceMs)));
    await Promise.all(this.#init.map((runner) => runner.stop(graceMs)));
    await this.#life;
    this.#finished = true;
    this.#changed();
    await this.#reporting;
    await this.#release().catch((error: unknown) => {
      this.#node.event(this.#pod, 'Warning', 'FailedCleanup', String(error));
    });
  }

  /** The machine has lost its power: nothing is asked, nothing is reported. */
  async crash(): Promise<void> {
    this.#silent = true;
    this.#stop.abort();
    this.#ending ??= Promise.resolve();
    await Promise.all([...this.#main, ...this.#init].map((runner) => runner.crash()));
    await this.#life;
    await this.#release();
  }

  async #release(): Promise<void> {
    this.#released = true;
    if (this.#link !== null) await this.#node.network.detach(this.#link);
    await this.#volumes.release();
    // A write of hosts that was under way may put its file back in between.
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }

  async #removeObject(): Promise<void> {
    const { name, namespace } = this;
    const body = { gracePeriodSeconds: 0, preconditions: { uid: this.uid } };
    for (;;) {
      try {
        await this.#node.core.deleteNamespacedPod({ name, namespace, body });
        return;
      } catch (error) {
        const { code } = error as { code?: number };
        // It is gone already, or another pod has its name.
        if (code === 404 || code === 409 || this.#silent) return;
        await this.#node.clock.sleep(RETRY_MS);
      }
    }
  }

  /** Writes /etc/hosts in place: containers have this very file mounted. */
  async refreshHosts(): Promise<void> {
    if (this.#released) return;
    const file = join(this.#folder, 'hosts');
    const hostname = this.#pod.spec?.hostname ?? this.name;
    const text = hostsFile(this.#facts.podIP, hostname, this.#node.state.hosts(this.namespace));
    const old = await readFile(file, 'utf8').catch(() => '');
    if (old !== text && (old !== '' || this.#link !== null)) await writeFile(file, text).catch(() => undefined);
  }

  /** Brings mounted ConfigMaps and Secrets up to date. */
  async refreshVolumes(): Promise<void> {
    if (this.#released) return;
    await this.#volumes.refresh().catch(() => undefined);
  }

  #hostFor(container: V1Container): ContainerHost {
    return {
      clock: this.#node.clock,
      facts: this.#facts,
      graceSeconds: this.#graceSeconds,
      launch: (_, attempt) => this.#launch(container, attempt),
      changed: () => this.#changed(),
      event: (type, reason, message) => this.#node.event(this.#pod, type, reason, message),
      lastWords: (_, exitCode) => this.#lastWords(container, exitCode),
    };
  }

  async #launch(container: V1Container, attempt: number): Promise<Launch> {
    const image = this.#node.images.find(container.image ?? '');
    if (image === undefined) throw new MissingImage(`the nodes have no image ${container.image}`);
    const { name, namespace } = this;
    const links = this.#pod.spec?.enableServiceLinks === false ? [] : this.#node.state.services(namespace);
    const own = this.#node.state.services('default').filter(({ metadata }) => metadata?.name === 'kubernetes');
    const environment = await containerEnvironment({
      pod: this.#pod,
      container,
      facts: this.#facts,
      node: this.#node.resources,
      sources: this.#node.state.keyed(namespace),
      image: image.env,
      links: serviceLinks([...own, ...links]),
    });
    environment.set('HOSTNAME', this.#pod.spec?.hostname ?? name);
    const rights = processRights(this.#pod, container, image);
    const id = `${name}.${container.name}.${attempt}.${this.uid.slice(0, 8)}`;
    await mkdir(this.#node.logs, { recursive: true });
    return {
      id,
      bundle: join(this.#folder, 'containers', id),
      logFile: join(this.#node.logs, `${namespace}_${name}_${container.name}_${attempt}.log`),
      plan: {
        container,
        image,
        environment,
        rights,
        mounts: [...(await this.#ownFiles(container)), ...(await this.#mounts(container, environment))],
        hostname: this.#pod.spec?.hostname ?? name,
        networkNamespace: this.#link?.namespace ?? '',
        cgroup: `${this.#node.cgroup}/${this.uid}/${container.name}-${attempt}`,
      },
    };
  }

  async #mounts(container: V1Container, environment: ReadonlyMap<string, string>): Promise<BindMount[]> {
    return await this.#volumes.mounts(container.volumeMounts ?? [], environment);
  }

  async #ownFiles(container: V1Container): Promise<BindMount[]> {
    const words = this.#wordsFile(container);
    await writeFile(words, '', { mode: 0o666 });
    const etc = ['hosts', 'hostname', 'resolv.conf'].map((file) => ({
      source: join(this.#folder, file),
      destination: `/etc/${file}`,
      readonly: file !== 'hosts',
    }));
    const destination = container.terminationMessagePath ?? '/dev/termination-log';
    return [...etc, { source: words, destination, readonly: false }];
  }

  #wordsFile(container: V1Container): string {
    return join(this.#folder, `termination-${container.name}`);
  }

  async #lastWords(container: V1Container, exitCode: number): Promise<string | undefined> {
    const said = await readFile(this.#wordsFile(container), 'utf8').catch(() => '');
    if (said !== '') return said.slice(0, LAST_WORDS);
    if (exitCode === 0 || container.terminationMessagePolicy !== 'FallbackToLogsOnError') return undefined;
    const file = this.container(container.name)?.logFile() ?? null;
    const log = file === null ? '' : await readFile(file, 'utf8').catch(() => '');
    return log === '' ? undefined : log.slice(-LAST_WORDS);
  }

  #changed(): void {
    this.#dirty = true;
    this.#reporting ??= this.#report().finally(() => (this.#reporting = null));
  }

  /** Sends the newest status until nothing is newer. */
  async #report(): Promise<void> {
    // Changes of one moment go out together.
    await Promise.resolve();
    while (this.#dirty && !this.#silent) {
      this.#dirty = false;
      const status = podStatus(this.#view(), this.#conditions);
      this.#conditions = status.conditions ?? [];
      try {
        await this.#node.core.patchNamespacedPodStatus(
          { name: this.name, namespace: this.namespace, body: { metadata: { uid: this.uid }, status } },
          setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch),
        );
      } catch (error) {
        const { code } = error as { code?: number };
        // The object is gone, or another pod has its name.
        if (code === 404 || code === 409) return;
        this.#dirty = true;
        await this.#node.clock.sleep(RETRY_MS);
      }
    }
  }

  #view() {
    return {
      pod: this.#pod,
      podIP: this.#link?.ip ?? null,
      hostIP: this.#node.ip,
      startedAt: this.#startedAt,
      initialized: this.#initialized,
      finished: this.#finished,
      overdue: this.#overdue,
      init: this.#init.map(({ status }) => status),
      main: this.#main.map(({ status }) => status),
      problem: this.#problem,
      now: new Date(this.#node.clock.nowMs()),
    };
  }
}
