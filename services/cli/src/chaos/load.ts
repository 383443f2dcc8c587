import { type Clock, fail } from '@guildhall/common';
import type { LoadRequest } from './requests.ts';
import { type ApiTarget, countWrong, type StreamedToken, type StreamResult, streamRequest } from './stream.ts';

/** A request and the tokens that an undisturbed run of it gave. */
export interface KnownRequest {
  request: LoadRequest;
  tokens: StreamedToken[];
}

const REFERENCE_ATTEMPTS = 2;

/** Answers every request in the undisturbed lab, `parallel` at a time. Throws `internal` when one breaks there. */
export async function undisturbed(
  api: ApiTarget,
  requests: readonly LoadRequest[],
  parallel: number,
  clock: Clock,
): Promise<KnownRequest[]> {
  const known: KnownRequest[] = [];
  let next = 0;
  const one = async (): Promise<void> => {
    for (let index = next++; index < requests.length; index = next++) {
      const request = requests[index] as LoadRequest;
      known[index] = { request, tokens: await reference(api, request, clock) };
    }
  };
  await Promise.all(Array.from({ length: parallel }, one));
  return known;
}

async function reference(api: ApiTarget, request: LoadRequest, clock: Clock): Promise<StreamedToken[]> {
  let last: string | null = null;
  for (let attempt = 0; attempt < REFERENCE_ATTEMPTS; attempt++) {
    const { tokens, error } = await streamRequest(api, request, clock);
    if (error === null) return tokens;
    last = error;
  }
  throw fail('internal', `an undisturbed stream broke: ${last}`);
}

/** One stream of the load that ended. */
export interface LoadResult extends StreamResult {
  wrongTokens: number;
}

/**
 * Streams that follow each other on `streams` lanes, without a pause, until `stop`; each answer is compared with the
 * undisturbed one.
 */
export class Load {
  readonly results: LoadResult[] = [];
  readonly #api: ApiTarget;
  readonly #known: readonly KnownRequest[];
  readonly #clock: Clock;
  readonly #lanes: Promise<void>[];
  readonly #tokens: number[];
  #next = 0;
  #stopping = false;
  #lastTokenMs = 0;

  constructor(api: ApiTarget, known: readonly KnownRequest[], streams: number, clock: Clock) {
    this.#api = api;
    this.#known = known;
    this.#clock = clock;
    this.#tokens = Array.from({ length: streams }, () => 0);
    this.#lanes = this.#tokens.map((_, lane) => this.#run(lane));
  }

  /** Tokens that each lane has got. */
  get tokens(): readonly number[] {
    return this.#tokens;
  }

  /** When the last token of any stream came. */
  get lastTokenMs(): number {
    return this.#lastTokenMs;
  }

  /** Starts no new streams; resolves when all that run have ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#lanes);
  }

  async #run(lane: number): Promise<void> {
    while (!this.#stopping) {
      const known = this.#known[this.#next++ % this.#known.length];
      if (known === undefined) return;
      const result = await streamRequest(this.#api, known.request, this.#clock, () => this.#onToken(lane));
      this.results.push({ ...result, wrongTokens: countWrong(result, known.tokens) });
      // A cluster that refuses at once is not asked as fast as it can refuse.
      if (result.error !== null) await this.#clock.sleep(500);
    }
  }

  #onToken(lane: number): void {
    this.#tokens[lane] = (this.#tokens[lane] ?? 0) + 1;
    this.#lastTokenMs = this.#clock.monotonicMs();
  }
}
