import { type Clock, type EventLog, fail, type GuildhallError, type Logger, type Metrics } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import { requestFingerprint } from './fingerprint.ts';
import { Probation, type SharedPlaces } from './probation.ts';
import { Quarantine, type SharedQuarantine } from './quarantine.ts';
import { RouterLosses } from './router-losses.ts';

/** What a gateway shares with the others of its cluster about broken requests. */
export interface GuardDeps {
  /** Id of this gateway. */
  source: string;
  /** Null for a gateway by itself. */
  shared: (SharedQuarantine & SharedPlaces) | null;
  log: Pick<EventLog, 'append'>;
}

export interface GuardOptions extends GuardDeps {
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  quarantineMs: number;
  /** Routers that may die under a stream in probation before it is taken for the cause. */
  maxDeathsAlone: number;
  /** Streams that wait for a router should look again. */
  onFree: () => void;
}

/** Requests whose deaths are remembered. */
const MAX_DOSSIERS = 1000;
/** Digits of a fingerprint that people see. */
const SHOWN_DIGITS = 12;

/** Keeps requests that break processes from breaking many of them. */
export class PoisonGuard {
  readonly quarantine: Quarantine;
  readonly probation: Probation;
  readonly losses: RouterLosses;
  /** Routers that died under requests in probation, by fingerprint. */
  readonly #deaths = new Map<string, number>();
  readonly #o: GuardOptions;

  constructor(options: GuardOptions) {
    const { shared, clock, logger, quarantineMs: ms, onFree, source, log } = options;
    this.#o = options;
    this.quarantine = new Quarantine({ shared, clock, logger, ms });
    this.probation = new Probation({ shared, clock, logger, onFree });
    this.losses = new RouterLosses({ clock, source, log });
  }

  /** The dossier of the choices of one prompt. */
  open(model: string, request: router.GenerateRequest): Dossier {
    return new Dossier(this, () => requestFingerprint(model, request));
  }

  /** Puts a request into quarantine; returns the error that it ends with. */
  convict(fingerprint: string, requestId: string, what: string): GuildhallError {
    const { logger, log, source, metrics, quarantineMs } = this.#o;
    const facts = { fingerprint: fingerprint.slice(0, SHOWN_DIGITS), request: requestId, failed: what };
    logger.error(facts, 'a request broke processes');
    // The same request, sent twice, may have been convicted before.
    if (quarantineMs > 0 && this.quarantine.leftMs(fingerprint) === 0) {
      this.quarantine.add(fingerprint);
      metrics.count('guildhall_requests_quarantined_total', { outcome: 'added' });
      const message = `request ${requestId} is refused for ${Math.ceil(quarantineMs / 1000)} s: ${what}`;
      log.append('quarantined', source, message, { ...facts, ms: quarantineMs });
    }
    return fail('computation_failed', what);
  }

  /** Adds to the deaths that count against a request; true when there are enough to know. */
  addDeaths(fingerprint: string, count: number): boolean {
    const deaths = (this.#deaths.get(fingerprint) ?? 0) + count;
    this.#deaths.delete(fingerprint);
    if (deaths > 0) this.#deaths.set(fingerprint, deaths);
    const oldest = this.#deaths.keys().next();
    if (this.#deaths.size > MAX_DOSSIERS && oldest.done !== true) this.#deaths.delete(oldest.value);
    return deaths >= this.#o.maxDeathsAlone;
  }

  /** Throws `request_quarantined` for a request in quarantine. */
  check(fingerprint: string): void {
    const leftMs = this.quarantine.leftMs(fingerprint);
    if (leftMs <= 0) return;
    const retryAfterS = Math.ceil(leftMs / 1000);
    this.#o.metrics.count('guildhall_requests_quarantined_total', { outcome: 'refused' });
    const message = `requests like this one broke the processes that computed them; it is refused for ${retryAfterS} s`;
    throw fail('request_quarantined', message, { details: { retryAfterS } });
  }
}

/** What is held against one prompt and its parameters. */
export class Dossier {
  readonly guard: PoisonGuard;
  readonly #compute: () => string;
  #fingerprint: string | null = null;
  #verdict: GuildhallError | null = null;

  constructor(guard: PoisonGuard, compute: () => string) {
    this.guard = guard;
    this.#compute = compute;
  }

  /** Throws `request_quarantined`, or what another choice was convicted with. Costs nothing while nobody is in quarantine. */
  check(): void {
    if (this.#verdict !== null) throw this.#verdict;
    if (this.guard.quarantine.size > 0) this.guard.check(this.#name());
  }

  /** Adds routers that died with nobody but this request to suspect; true when there are enough to know. */
  addDeaths(count: number): boolean {
    return this.guard.addDeaths(this.#name(), count);
  }

  /** Puts it into quarantine for what failed; returns the error that its request ends with. */
  convict(requestId: string, what: string): GuildhallError {
    return (this.#verdict ??= this.guard.convict(this.#name(), requestId, what));
  }

  #name(): string {
    return (this.#fingerprint ??= this.#compute());
  }
}
