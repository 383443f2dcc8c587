import type { V1Container, V1ContainerState, V1ContainerStatus } from '@kubernetes/client-node';
import type { Clock } from '@guildhall/common';
import { RestartBackOff } from './back-off.ts';
import { isCancelled } from './cancelled.ts';
import type { PodFacts } from './downward.ts';
import { MissingReference } from './environment.ts';
import { lifecycleAction } from './lifecycle.ts';
import type { ContainerPlan } from './oci-spec.ts';
import { ContainerProbes } from './probes.ts';
import { removeContainer, type RunningContainer, startContainer } from './runtime.ts';
import { RefusedContainer } from './security.ts';

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

/** An image that the nodes do not have. */
export class MissingImage extends Error {}

/** How one start of a container is made. */
export interface Launch {
  id: string;
  bundle: string;
  logFile: string;
  plan: ContainerPlan;
}

/** What a container needs of its pod. */
export interface ContainerHost {
  readonly clock: Clock;
  /** The address is known once a container is launched. */
  readonly facts: PodFacts;
  readonly graceSeconds: number;
  /** Everything for start number `attempt`. Throws what keeps it from being started. */
  launch(container: V1Container, attempt: number): Promise<Launch>;
  /** The container's status is another one. */
  changed(): void;
  event(type: 'Normal' | 'Warning', reason: string, message: string): void;
  /** What it said when it ended (terminationMessagePath). */
  lastWords(container: V1Container, exitCode: number): Promise<string | undefined>;
}

const RETRY_MS = 2_000;
/** What a process is given after its preStop hook has used all the time. */
const LEAST_GRACE_MS = 2_000;

function reasonOf(error: unknown): string {
  if (error instanceof MissingImage) return 'ErrImagePull';
  if (error instanceof MissingReference || error instanceof RefusedContainer) return 'CreateContainerConfigError';
  return 'RunContainerError';
}

/** One container of a pod through all its starts. */
export class ContainerRunner {
  readonly container: V1Container;
  readonly #host: ContainerHost;
  readonly #backOff: RestartBackOff;
  readonly #stop = new AbortController();
  #state: V1ContainerState = { waiting: { reason: 'ContainerCreating' } };
  #lastState: V1ContainerState = {};
  #restarts = 0;
  #attempt = 0;
  #started = false;
  #ready = false;
  #running: RunningContainer | null = null;
  #probes: ContainerProbes | null = null;
  #launch: Launch | null = null;
  #finished: Promise<number> | null = null;
  readonly #onStarted = Promise.withResolvers<void>();

  constructor(container: V1Container, host: ContainerHost, waiting: string) {
    this.container = container;
    this.#host = host;
    this.#backOff = new RestartBackOff(host.clock);
    this.#state = { waiting: { reason: waiting } };
  }

  /** Resolves once it has started and its startup probe, if it has one, succeeded. */
  get started(): Promise<void> {
    return this.#onStarted.promise;
  }

  get ready(): boolean {
    return this.#ready;
  }

  get state(): V1ContainerState {
    return this.#state;
  }

  /** Number of the process that runs, as the node sees it; null between starts. */
  get pid(): number | null {
    return this.#running?.pid ?? null;
  }

  /** File with the output of the newest start, or of the one before. */
  logFile(previous = false): string | null {
    const file = this.#launch?.logFile;
    if (file === undefined) return null;
    return previous ? file.replace(/\d+\.log$/, `${this.#restarts - 1}.log`) : file;
  }

  get status(): V1ContainerStatus {
    const { name, image = '' } = this.container;
    return {
      name,
      image,
      imageID: image,
      ready: this.#ready,
      started: this.#started,
      restartCount: this.#restarts,
      state: this.#state,
      lastState: this.#lastState,
      ...(this.#launch === null ? {} : { containerID: `runc://${this.#launch.id}` }),
    };
  }

  /** Starts it again and again as the policy says. Resolves with the last exit status when it is not started again. */
  run(policy: RestartPolicy): Promise<number> {
    this.#finished ??= this.#loop(policy);
    return this.#finished;
  }

  async #loop(policy: RestartPolicy): Promise<number> {
    for (;;) {
      const startedMs = this.#host.clock.monotonicMs();
      const code = await this.#once();
      if (this.#stop.signal.aborted) return code ?? 137;
      if (code !== null) {
        if (policy === 'Never' || (policy === 'OnFailure' && code === 0)) return code;
        this.#restarts += 1;
      }
      const wait = code === null ? RETRY_MS : this.#backOff.waitMs(startedMs);
      if (code !== null && wait > 0) this.#crashLoop(wait);
      if (!(await this.#pause(wait))) return code ?? 137;
    }
  }

  #crashLoop(waitMs: number): void {
    const message = `back-off ${waitMs / 1000}s restarting failed container=${this.container.name}`;
    this.#lastState = this.#state;
    this.#set({ waiting: { reason: 'CrashLoopBackOff', message } });
    this.#host.event('Warning', 'BackOff', message);
  }

  /** @returns false when the container is stopped meanwhile. */
  async #pause(ms: number): Promise<boolean> {
    try {
      await this.#host.clock.sleep(ms, this.#stop.signal);
      return true;
    } catch (error) {
      if (isCancelled(error)) return false;
      throw error;
    }
  }

  #set(state: V1ContainerState): void {
    this.#state = state;
    this.#host.changed();
  }

  /** One start to its end; null where it could not be started. */
  async #once(): Promise<number | null> {
    let running: RunningContainer;
    try {
      this.#launch = await this.#host.launch(this.container, this.#attempt);
      const { id, bundle, plan, logFile } = this.#launch;
      running = await startContainer(id, bundle, plan, logFile, this.#host.clock);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#host.event('Warning', 'Failed', `${this.container.name}: ${message}`);
      this.#set({ waiting: { reason: reasonOf(error), message } });
      return null;
    }
    this.#attempt += 1;
    if (this.#state.terminated !== undefined) this.#lastState = this.#state;
    const startedAt = new Date(this.#host.clock.nowMs());
    this.#running = running;
    this.#set({ running: { startedAt } });
    await this.#watch(running);
    const exitCode = await running.ended;
    await this.#after(running, exitCode, startedAt);
    return exitCode;
  }

  async #watch(running: RunningContainer): Promise<void> {
    const target = this.#target(running);
    const { postStart } = this.container.lifecycle ?? {};
    if (postStart !== undefined) {
      const { ok, message } = await lifecycleAction(
        target,
        postStart,
        this.#host.graceSeconds * 1000,
        this.#host.clock,
      );
      if (!ok) this.#kill('FailedPostStartHook', message, undefined);
    }
    this.#probes = new ContainerProbes(target, this.#host.clock, {
      started: () => {
        this.#started = true;
        this.#onStarted.resolve();
        this.#host.changed();
      },
      ready: (ready) => {
        if (ready === this.#ready) return;
        this.#ready = ready;
        this.#host.changed();
      },
      unhealthy: (kind, message, grace) => this.#kill(`${kind} probe failed`, message, grace),
      failed: (kind, message) => this.#host.event('Warning', 'Unhealthy', `${kind} probe failed: ${message}`),
    });
    if (this.#stop.signal.aborted) return;
    this.#probes.start();
  }

  #target(running: RunningContainer) {
    const exec: RunningContainer['exec'] = (argv, timeoutMs) => running.exec(argv, timeoutMs);
    return { podIP: this.#host.facts.podIP, container: this.container, exec };
  }

  #kill(why: string, message: string, graceSeconds: number | undefined): void {
    this.#host.event('Normal', 'Killing', `Container ${this.container.name}: ${why}: ${message}; it is restarted`);
    void this.#end((graceSeconds ?? this.#host.graceSeconds) * 1000);
  }

  async #after(running: RunningContainer, exitCode: number, startedAt: Date): Promise<void> {
    this.#probes?.stop();
    this.#probes = null;
    this.#running = null;
    this.#started = false;
    this.#ready = false;
    const message = await this.#host.lastWords(this.container, exitCode);
    if (this.#launch !== null) await removeContainer(running.id, this.#launch.bundle);
    this.#set({
      terminated: {
        exitCode,
        reason: exitCode === 0 ? 'Completed' : 'Error',
        startedAt,
        finishedAt: new Date(this.#host.clock.nowMs()),
        ...(message === undefined ? {} : { message }),
      },
    });
  }

  /** preStop, SIGTERM, and SIGKILL when the grace period is over. */
  async #end(graceMs: number): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#probes?.stopKilling();
    const begun = this.#host.clock.monotonicMs();
    const { preStop } = this.container.lifecycle ?? {};
    if (preStop !== undefined && graceMs > 0) {
      const hook = lifecycleAction(this.#target(running), preStop, graceMs, this.#host.clock);
      const done = await Promise.race([hook, running.ended.then(() => null)]);
      if (done !== null && !done.ok) this.#host.event('Warning', 'FailedPreStopHook', done.message);
    }
    await running.kill('TERM');
    const left = Math.max(LEAST_GRACE_MS, graceMs - (this.#host.clock.monotonicMs() - begun));
    const timer = this.#host.clock.setTimer(left, () => void running.kill('KILL'));
    await running.ended;
    timer.cancel();
  }

  /** Ends it for good. */
  async stop(graceMs: number): Promise<void> {
    this.#stop.abort();
    this.#onStarted.resolve();
    await this.#end(graceMs);
    await this.#finished;
  }

  /** Ends its process at once and for good, as a machine does that loses its power. */
  async crash(): Promise<void> {
    this.#stop.abort();
    this.#onStarted.resolve();
    await this.#running?.kill('KILL');
    await this.#finished;
  }
}
