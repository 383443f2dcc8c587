import type { Timer } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import type { SimClock } from './sim-clock.ts';

interface Task {
  ms: number;
  done: () => void;
}

const NO_TASK: Task = { ms: 0, done: () => undefined };

/** Decode tasks that may go before a waiting prefill one, as in the workers' own queue. */
const MAX_OVERTAKING = 16;

/** A list that is taken from at its front. */
class Fifo {
  #tasks: Task[] = [];
  #from = 0;

  get length(): number {
    return this.#tasks.length - this.#from;
  }

  push(task: Task): void {
    this.#tasks.push(task);
  }

  shift(): Task | undefined {
    const task = this.#tasks[this.#from];
    if (task === undefined) return undefined;
    this.#tasks[this.#from++] = NO_TASK;
    if (this.#from === this.#tasks.length) {
      this.#tasks.length = 0;
      this.#from = 0;
    }
    return task;
  }

  clear(): void {
    this.#tasks = [];
    this.#from = 0;
  }
}

/**
 * A machine with some cores. Each of its threads runs one task at a time; when more of them run than there are
 * cores, all of them slow down alike.
 */
export class SimHost {
  readonly clock: SimClock;
  readonly cores: number;
  readonly #running = new Set<SimThread>();
  #threads = 0;
  #rate = 1;
  /** Core-milliseconds that each running thread has got since the start. */
  #progressMs = 0;
  #settledAtMs = 0;
  #timer: Timer | null = null;

  constructor(clock: SimClock, cores: number) {
    this.clock = clock;
    this.cores = cores;
  }

  /** A thread of a process on this machine. All are made before one has work. */
  thread(): SimThread {
    this.#threads += 1;
    return new SimThread(this);
  }

  /** True while no thread can ever wait for a core, so that tasks end when they are due. */
  get isUncontended(): boolean {
    return this.#threads <= this.cores;
  }

  /** Has a thread work for `ms` at full speed; it finishes later when cores are short. */
  begin(thread: SimThread, ms: number): void {
    this.#settle();
    thread.dueMs = this.#progressMs + ms;
    this.#running.add(thread);
    this.#schedule();
  }

  /** A thread ends without finishing. */
  drop(thread: SimThread): void {
    this.#settle();
    if (this.#running.delete(thread)) this.#schedule();
  }

  #settle(): void {
    const now = this.clock.monotonicMs();
    this.#progressMs += (now - this.#settledAtMs) * this.#rate;
    this.#settledAtMs = now;
  }

  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#running.size === 0) return;
    this.#rate = Math.min(1, this.cores / this.#running.size);
    let due = Infinity;
    for (const thread of this.#running) due = Math.min(due, thread.dueMs);
    const waitMs = Math.max(0, (due - this.#progressMs) / this.#rate);
    this.#timer = this.clock.timerAt(this.#settledAtMs + waitMs, () => this.#finish(due));
  }

  #finish(due: number): void {
    this.#settle();
    const finished = [...this.#running].filter((thread) => thread.dueMs <= due);
    for (const thread of finished) this.#running.delete(thread);
    this.#schedule();
    for (const thread of finished) thread.finish();
  }
}

/** One thread: tasks in the order in which they came, decode before prefill. */
export class SimThread {
  readonly #host: SimHost;
  readonly #waiting: Readonly<Record<Lane, Fifo>> = { decode: new Fifo(), prefill: new Fifo() };
  #task: Task | null = null;
  #overtaken = 0;
  #dead = false;
  #begunAtMs = 0;
  #usedMs = 0;
  /** Progress of the host at which its task ends. */
  dueMs = 0;

  constructor(host: SimHost) {
    this.#host = host;
  }

  /** Milliseconds for which it has had a task, up to now. */
  get busyMs(): number {
    return this.#usedMs + (this.#task === null ? 0 : this.#host.clock.monotonicMs() - this.#begunAtMs);
  }

  /** Tasks that wait or run. */
  get depth(): number {
    return this.#waiting.decode.length + this.#waiting.prefill.length + (this.#task === null ? 0 : 1);
  }

  /** Queues work of `ms` on one core; `done` is called at its end, unless the thread is killed before. */
  submit(lane: Lane, ms: number, done: () => void): void {
    if (this.#dead) return;
    const task = { ms, done };
    if (this.#task === null) this.#start(task);
    else this.#waiting[lane].push(task);
  }

  /** Ends it: what waits and runs is never done. */
  kill(): void {
    this.#usedMs = this.busyMs;
    this.#dead = true;
    this.#task = null;
    this.#waiting.decode.clear();
    this.#waiting.prefill.clear();
    this.#host.drop(this);
  }

  /** Its host calls it when its task has had its time. */
  finish(): void {
    const task = this.#task;
    if (task === null) return;
    this.#usedMs += this.#host.clock.monotonicMs() - this.#begunAtMs;
    this.#task = null;
    task.done();
    if (this.#task === null && !this.#dead) this.#next();
  }

  #start(task: Task): void {
    this.#task = task;
    this.#begunAtMs = this.#host.clock.monotonicMs();
    if (!this.#host.isUncontended) return this.#host.begin(this, task.ms);
    this.#host.clock.at(this.#begunAtMs + task.ms, () => {
      if (this.#task === task) this.finish();
    });
  }

  #next(): void {
    const { decode, prefill } = this.#waiting;
    const decodes = decode.length > 0 && (prefill.length === 0 || this.#overtaken < MAX_OVERTAKING);
    const task = (decodes ? decode : prefill).shift();
    if (task === undefined) return;
    this.#overtaken = decodes && prefill.length > 0 ? this.#overtaken + 1 : 0;
    this.#start(task);
  }
}
