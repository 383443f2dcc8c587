import { type Clock, errorMessage, fail, type GuildhallError, isGuildhallError, type Timer } from '@guildhall/common';
import { type Checkpoint, ExpertBytes, expertRanges, loadableExperts } from '@guildhall/model/weights';
import type { LayerExperts } from '../shard.ts';

export interface OwnFilesOptions {
  checkpoint: Checkpoint;
  clock: Clock;
  /** Told when what can be read has changed, with the reason where something cannot. */
  onChange: (problem: GuildhallError | null) => void;
  /** Time after which a disk that does not answer is given up, milliseconds. */
  readLimitMs: number;
}

interface Fault {
  error: GuildhallError;
  untilMs: number;
}

const CHECK_MS = 2000;
/** For so long a file that could not be read is left alone though it looks well. */
const MISTRUST_MS = 30_000;

/**
 * The checkpoint's files on this machine. They may go away under a running worker: then what is in them is not here any
 * more, until they are back.
 */
export class OwnFiles {
  readonly #o: OwnFilesOptions;
  readonly #faults = new Map<string, Fault>();
  /** By layer; null where every expert is here. */
  #here: Map<number, ReadonlySet<number>> | null = null;
  #listed: LayerExperts[] | null = null;
  #checking: Promise<void> | null = null;
  #timer: Timer | null = null;
  /** Calls that wait for a disk that was given up. */
  #hanging = 0;

  constructor(options: OwnFilesOptions) {
    this.#o = options;
    this.#relist();
  }

  start(): void {
    this.#timer = this.#o.clock.setInterval(CHECK_MS, () => void this.check());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  has(layer: number, expert: number): boolean {
    return this.#here === null || this.#here.get(layer)?.has(expert) === true;
  }

  /** Experts whose files are here and can be read; null where all are. */
  list(): LayerExperts[] | null {
    return this.#listed;
  }

  /** True while files that were here cannot be read. */
  get lost(): boolean {
    return this.#faults.size > 0;
  }

  /**
   * An expert out of the files. A failure is remembered against its file.
   * Errors: `checkpoint_not_found`, `checkpoint_invalid`, `checkpoint_partial`, `invalid_value`.
   */
  async read(layer: number, expert: number): Promise<ExpertBytes> {
    const { checkpoint } = this.#o;
    try {
      return await this.#limited(() => ExpertBytes.read(checkpoint, layer, expert));
    } catch (err) {
      await this.check();
      // Where the files look well they could not be read all the same.
      for (const { tensor } of this.has(layer, expert) ? expertRanges(checkpoint, layer, expert) : []) {
        this.#note(checkpoint.info(tensor).file, err, MISTRUST_MS);
      }
      this.#relist();
      throw err;
    }
  }

  /** Looks whether the files are still what they were when they were opened. */
  async check(): Promise<void> {
    this.#checking ??= this.#limited(() => this.#check())
      .catch((err: unknown) => this.#loseAll(err))
      .finally(() => (this.#checking = null));
    await this.#checking;
  }

  /** The disk hangs: nothing of what is here can be read. */
  #loseAll(err: unknown): void {
    for (const file of this.#o.checkpoint.files) if (!file.outlined) this.#note(file.name, err, MISTRUST_MS);
    this.#relist();
  }

  async #check(): Promise<void> {
    const before = [...this.#faults.keys()].join();
    for (const file of this.#o.checkpoint.files) {
      try {
        await file.check();
        const fault = this.#faults.get(file.name);
        if (fault !== undefined && fault.untilMs <= this.#o.clock.monotonicMs()) this.#faults.delete(file.name);
      } catch (err) {
        this.#note(file.name, err, 0);
      }
    }
    if ([...this.#faults.keys()].join() !== before) this.#relist();
  }

  #note(file: string, err: unknown, mistrustMs: number): void {
    const known = this.#faults.get(file);
    const error = isGuildhallError(err) ? err : fail('checkpoint_invalid', errorMessage(err), { cause: err });
    const untilMs = this.#o.clock.monotonicMs() + mistrustMs;
    this.#faults.set(file, { error: known?.error ?? error, untilMs: Math.max(known?.untilMs ?? 0, untilMs) });
  }

  #relist(): void {
    this.#listed = loadableExperts(this.#o.checkpoint, new Set(this.#faults.keys()));
    this.#here =
      this.#listed === null ? null : new Map(this.#listed.map(({ layer, experts }) => [layer, new Set(experts)]));
    const [first] = this.#faults.values();
    this.#o.onChange(first?.error ?? null);
  }

  /**
   * A disk that hangs must not hold up the others for ever. While something waits for it nothing else is asked of it: each
   * would take a thread that reads files.
   */
  async #limited<T>(work: () => Promise<T>): Promise<T> {
    const { clock, readLimitMs, checkpoint } = this.#o;
    const late = (): GuildhallError =>
      fail('checkpoint_invalid', `${checkpoint.dir}: the disk did not answer for ${readLimitMs} ms`);
    if (this.#hanging > 0) throw late();
    const limit = Promise.withResolvers<never>();
    let hangs = false;
    const timer = clock.setTimer(readLimitMs, () => {
      hangs = true;
      this.#hanging += 1;
      limit.reject(late());
    });
    const working = work().finally(() => {
      timer.cancel();
      if (hangs) this.#hanging -= 1;
    });
    // It may fail long after it was given up.
    working.catch(() => undefined);
    return Promise.race([working, limit.promise]);
  }
}
