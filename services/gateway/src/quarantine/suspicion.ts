import type { Dossier } from './guard.ts';
import type { Place } from './probation.ts';

/**
 * New tokens after which a stream has shown that it does not kill its router: the first comes from the prompt, the second
 * from decoding.
 */
const PROVEN_TOKENS = 2;
/** A stream with one new token whose client reads no further holds others up for so long. */
const LAPSE_MS = 1000;

/**
 * Whether one stream is what kills its routers. A router that dies leaves all its streams behind: those that had got new
 * tokens from it are above suspicion, the others go on in probation, one at a time in each router. A request that is alone
 * there when the router dies, again and again, is guilty; deaths in company count for nothing.
 */
export class Suspicion {
  readonly #dossier: Dossier;
  #suspect = false;
  #place: Place | null = null;
  /** New ones from the present router. */
  #tokens = 0;
  /** Deaths that this stream has added to its dossier. */
  #deaths = 0;

  constructor(dossier: Dossier) {
    this.#dossier = dossier;
  }

  /** It must have a router's place to go on. */
  get suspect(): boolean {
    return this.#suspect;
  }

  /** Lets the stream into a router; false when somebody else is in its place. */
  async enter(router: string): Promise<boolean> {
    this.#tokens = 0;
    if (!this.#suspect) return true;
    this.#place = await this.#dossier.guard.probation.enter(router);
    return this.#place !== null;
  }

  /** A new token has come. */
  token(): void {
    this.#tokens += 1;
    if (this.#tokens < PROVEN_TOKENS) this.#place?.release(LAPSE_MS);
    else if (this.#tokens === PROVEN_TOKENS) this.#clear();
  }

  /** The stream's call has ended without a death. */
  leave(): void {
    this.#place?.release();
    this.#place = null;
  }

  /** The router died under it. True when that makes its request guilty. */
  died(): boolean {
    const alone = this.#place?.held() === true;
    this.leave();
    if (this.#tokens >= PROVEN_TOKENS) return false;
    this.#suspect = true;
    if (!alone) return false;
    this.#deaths += 1;
    return this.#dossier.addDeaths(1);
  }

  #clear(): void {
    this.leave();
    this.#suspect = false;
    if (this.#deaths > 0) this.#dossier.addDeaths(-this.#deaths);
    this.#deaths = 0;
  }
}
