import { errorMessage } from '@guildhall/common';
import { ApiDescription } from './api-description.ts';
import { type Answer, FuzzClient } from './fuzz-client.ts';
import type { FuzzedWorld } from './fuzzed-world.ts';
import { Judge } from './judge.ts';
import { KnownIds } from './known-ids.ts';
import { type FuzzRequest, Requests } from './requests.ts';

/** Requests that are on their way at the same time. */
const TOGETHER = 8;
/** How often a request is sent that is refused for a passing reason. */
const TRIES = 60;
/** Wrong answers after which a run ends. */
const MAX_FAILURES = 10;
/** Longest body that a message shows whole, bytes. */
const SHOWN = 48 << 10;

/** The seed of a run: that of the environment, else `usual`, else a new one. */
export function seedOf(usual: number | null, env: NodeJS.ProcessEnv = process.env): number {
  const given = env['GUILDHALL_FUZZ_SEED'];
  if (given === undefined) return usual ?? Math.trunc(Math.random() * 2 ** 31);
  if (!/^\d{1,10}$/.test(given)) throw new TypeError('GUILDHALL_FUZZ_SEED must be a whole number');
  return Number(given);
}

/** What a run has sent and got. */
export interface Counts {
  sent: number;
  byStatus: Map<number, number>;
  /** Statuses that each operation has answered its own requests with. */
  byOperation: Map<string, Map<number, number>>;
  byKind: Map<string, number>;
  /** Requests that were sent again, as they were told to. */
  again: number;
  slowestMs: number;
}

/** Sends requests of a seed to a gateway and holds every answer to the description. */
export class FuzzRun {
  readonly api = ApiDescription.read();
  readonly seed: number;
  readonly counts: Counts = {
    sent: 0,
    byStatus: new Map(),
    byOperation: new Map(),
    byKind: new Map(),
    again: 0,
    slowestMs: 0,
  };
  readonly #client: FuzzClient;
  readonly #judge = new Judge(this.api);
  readonly #ids = new KnownIds();
  readonly #requests = new Requests(this.api, () => this.#ids.list);
  readonly #world: FuzzedWorld;

  constructor(world: FuzzedWorld, seed: number) {
    this.#world = world;
    this.#client = new FuzzClient(world.gateway.url);
    this.seed = seed;
  }

  /** Sends requests `from` to before `to` of the seed. Throws when answers are wrong, with the requests. */
  async send(from: number, to: number): Promise<void> {
    let next = from;
    const failures: string[] = [];
    const one = async (): Promise<void> => {
      while (next < to && failures.length < MAX_FAILURES) {
        const failure = await this.#one(next++);
        if (failure !== null) failures.push(failure);
      }
    };
    await Promise.all(Array.from({ length: TOGETHER }, one));
    this.#client.closeIdle();
    if (failures.length > 0) throw new Error(`wrong answers:\n${failures.join('\n\n')}`);
  }

  /** What is wrong with the answer to a request, and how to send it again; null where it is right. */
  async #one(index: number): Promise<string | null> {
    const request = this.#requests.make(this.seed, index);
    try {
      await this.check(request);
      return null;
    } catch (err) {
      const place = `GUILDHALL_FUZZ_SEED=${this.seed} GUILDHALL_FUZZ_INDEX=${index}`;
      const replay = `GUILDHALL_FUZZ_REPLAY='${shown(request)}'`;
      return [errorMessage(err), ...this.#world.ended, `again: ${place}`, `or with its ids: ${replay}`].join('\n');
    }
  }

  /** Sends one request and holds its answer to the description. */
  async check(request: FuzzRequest): Promise<void> {
    let answer = await this.#send(request);
    for (let tries = 1; tries < TRIES && this.#judge.isPassing(request, answer); tries++) {
      this.counts.again += 1;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      answer = await this.#send(request);
    }
    this.#count(request, answer?.status ?? 0);
    this.#judge.check(request, answer);
    if (answer !== null) this.#ids.learn(answer);
  }

  async #send(request: FuzzRequest): Promise<Answer | null> {
    const began = performance.now();
    const answer = await this.#client.send(request);
    this.counts.slowestMs = Math.max(this.counts.slowestMs, performance.now() - began);
    return answer;
  }

  #count({ operation, kind }: FuzzRequest, status: number): void {
    const { byStatus, byOperation, byKind } = this.counts;
    this.counts.sent += 1;
    add(byStatus, status);
    add(byKind, kind);
    const own = byOperation.get(operation) ?? new Map<number, number>();
    byOperation.set(operation, own);
    if (kind !== 'method' && kind !== 'raw') add(own, status);
  }
}

function add<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** A request as JSON, which `readRequest` reads. */
function shown({ body, raw, ...rest }: FuzzRequest): string {
  const text = (bytes: Buffer | null): string | null => bytes?.subarray(0, SHOWN).toString('base64') ?? null;
  return JSON.stringify({ ...rest, body: text(body), raw: text(raw) }).replaceAll("'", '\\u0027');
}

/** A request from a message of a failure. */
export function readRequest(json: string): FuzzRequest {
  const { body, raw, ...rest } = JSON.parse(json) as Omit<FuzzRequest, 'body' | 'raw'> &
    Record<'body' | 'raw', string | null>;
  const bytes = (text: string | null): Buffer | null => (text === null ? null : Buffer.from(text, 'base64'));
  return { ...rest, body: bytes(body), raw: bytes(raw) };
}
