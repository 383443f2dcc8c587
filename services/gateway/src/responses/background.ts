import { randomBytes } from 'node:crypto';
import {
  type Clock,
  errorInfo,
  fail,
  isGuildhallError,
  type Logger,
  type Metrics,
  type ResponseStore,
  type StoredResponse,
  type Timer,
  toGuildhallError,
} from '@guildhall/common';
import type { Caller } from '../caller.ts';
import type { GatewayContext } from '../context.ts';
import type { ChatRequest } from '../schema/chat.ts';
import type { ResponseObject } from '../schema/responses.ts';
import { BackgroundRun, type BackgroundJob, LEASE_MS } from './background-run.ts';
import type { AskedResponse } from './prepare.ts';
import { fromStored, limitsOf, toStored } from './stored.ts';

/** How often a gateway looks for responses that nobody has. */
const LOOK_MS = 500;
/** Gateways that may die of a response before it is taken for the cause. */
const MAX_DEATHS = 3;

export interface BackgroundDeps {
  store: ResponseStore;
  /** Id of the gateway. */
  gateway: string;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/**
 * The background responses that this gateway generates. Each is in Redis with a lease, and what was generated with it: when
 * its gateway dies, or hands it over because it goes, any other one continues it at the token where it stopped.
 */
export class BackgroundResponses {
  readonly #deps: BackgroundDeps;
  /** Of this process: one that starts again under the same id is another owner. */
  readonly #owner: string;
  readonly #runs = new Map<string, BackgroundRun>();
  #context: GatewayContext | null = null;
  #timer: Timer | null = null;
  #looking = false;

  constructor(deps: BackgroundDeps) {
    this.#deps = deps;
    this.#owner = `${deps.gateway}/${randomBytes(6).toString('hex')}`;
  }

  /** What responses are generated with. */
  attach(context: GatewayContext): void {
    this.#context = context;
  }

  /** Starts to look for responses that nobody has. */
  start(): void {
    this.#timer = this.#deps.clock.setInterval(LOOK_MS, () => void this.#look());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Takes a response on. Throws `queue_full` and `redis_unavailable`. @returns it as it is then. */
  async begin(asked: AskedResponse, caller: Caller, traceparent: string): Promise<ResponseObject> {
    const context = this.#attached();
    const job: BackgroundJob = { chat: withSeed(asked.chat), caller, traceparent };
    const response = asked.builder.head;
    const stored = toStored(caller.tenant, response, asked.builder, asked.input, JSON.stringify(job));
    const owner = this.#hasRoom() ? this.#owner : '';
    if (!(await this.#deps.store.begin(stored, owner, LEASE_MS, limitsOf(context))))
      throw fail('queue_full', 'too many background responses wait or run; try again later');
    if (owner !== '') this.#run(stored, job);
    return response;
  }

  /** A response that was cancelled, or removed, is not to go on here. */
  drop(id: string): void {
    this.#runs.get(id)?.drop();
  }

  #attached(): GatewayContext {
    if (this.#context === null) throw fail('internal', 'background responses have no context');
    return this.#context;
  }

  #hasRoom(): boolean {
    const { inFlight, config } = this.#attached();
    return !inFlight.draining && inFlight.size < config.maxInFlight;
  }

  /** Takes responses that nobody has, as many as there is room for. */
  async #look(): Promise<void> {
    const { inFlight, config } = this.#attached();
    if (this.#looking || !this.#hasRoom()) return;
    this.#looking = true;
    try {
      const ids = await this.#deps.store.claim(this.#owner, LEASE_MS, config.maxInFlight - inFlight.size);
      for (const id of ids) await this.#take(id);
    } catch (err) {
      if (!isGuildhallError(err) || errorInfo(err.code).http !== 503)
        this.#deps.logger.error({ err }, 'looking for background responses failed');
    } finally {
      this.#looking = false;
    }
  }

  async #take(id: string): Promise<void> {
    const stored = await this.#deps.store.claimed(id);
    if (stored === null || this.#runs.has(id)) return;
    this.#deps.logger.info({ response: id, deaths: stored.deaths }, 'a background response is taken over');
    if (stored.deaths < MAX_DEATHS) this.#run(stored, JSON.parse(stored.job) as BackgroundJob);
    else await this.#giveUp(stored);
  }

  async #giveUp(stored: StoredResponse): Promise<void> {
    const message = `${stored.deaths} gateways died while they generated it; it is not tried again`;
    const response = { ...fromStored(stored), status: 'failed' as const, error: { code: 'server_error', message } };
    const { output, ...rest } = response;
    const head = JSON.stringify({ ...(JSON.parse(stored.head) as object), response: rest });
    await this.#deps.store.finish({ ...stored, status: 'failed', head, output: JSON.stringify(output) }, this.#owner);
  }

  #run(stored: StoredResponse, job: BackgroundJob): void {
    const { metrics, logger } = this.#deps;
    const run = new BackgroundRun(this.#attached(), { stored, job, owner: this.#owner });
    this.#runs.set(stored.id, run);
    metrics.gauge('guildhall_background_responses', this.#runs.size);
    void run
      .run()
      .then(
        (outcome) => metrics.count('guildhall_background_responses_total', { outcome }),
        (err: unknown) => logger.error({ response: stored.id, err: reasonOf(err) }, 'a background response was lost'),
      )
      .finally(() => {
        this.#runs.delete(stored.id);
        metrics.gauge('guildhall_background_responses', this.#runs.size);
      });
  }
}

function reasonOf(err: unknown): unknown {
  const known = toGuildhallError(err);
  return known.cause ?? known;
}

/** Whoever goes on samples as the first one would have. */
function withSeed(chat: ChatRequest): ChatRequest {
  return { ...chat, seed: chat.seed ?? randomBytes(4).readUInt32LE() };
}
