import type { Clock, EventLog } from '@guildhall/common';

export interface RouterLossesOptions {
  clock: Clock;
  /** Id of this gateway. */
  source: string;
  log: Pick<EventLog, 'append'>;
}

/** A stream that lost its router. */
export interface LostStream {
  /** It goes on, `pauseMs` after the loss was noticed. */
  resumed(router: string, pauseMs: number): void;
  /** It does not, or nobody wants it any more. */
  ended(): void;
}

/** What one death has cost. */
interface Death {
  router: string;
  /** Streams lost since the last report of a resume. */
  streams: number;
  suspects: number;
  open: number;
  resumed: number;
  longestMs: number;
  /** Routers that took streams over. */
  heirs: Set<string>;
  reported: boolean;
  gathering: boolean;
}

/** Streams of one router notice its death within this time, unless their clients are slow. */
const GATHER_MS = 500;
/** Deaths remembered. */
const MAX_DEATHS = 64;

/** Tells the cluster's event log of routers that died under streams: once for each death, not for each stream. */
export class RouterLosses {
  readonly #o: RouterLossesOptions;
  readonly #deaths = new Map<string, Death>();

  constructor(options: RouterLossesOptions) {
    this.#o = options;
  }

  /** A stream has lost a router's process; `suspect` if it had no new token from it. */
  lost(router: string, incarnation: bigint, suspect: boolean): LostStream {
    const death = this.#deathOf(router, incarnation);
    death.streams += 1;
    death.open += 1;
    if (suspect) death.suspects += 1;
    let open = true;
    const close = (): void => {
      if (!open) return;
      open = false;
      death.open -= 1;
      this.#reportResumed(death);
    };
    return {
      resumed: (heir, pauseMs) => {
        if (open) {
          death.resumed += 1;
          death.longestMs = Math.max(death.longestMs, pauseMs);
          death.heirs.add(heir);
        }
        close();
      },
      ended: close,
    };
  }

  #deathOf(router: string, incarnation: bigint): Death {
    const key = `${router}/${incarnation}`;
    let death = this.#deaths.get(key);
    if (death === undefined) {
      const none = { streams: 0, suspects: 0, open: 0, resumed: 0, longestMs: 0, heirs: new Set<string>() };
      death = { router, ...none, reported: false, gathering: false };
      this.#deaths.set(key, death);
      const oldest = this.#deaths.keys().next();
      if (this.#deaths.size > MAX_DEATHS && oldest.done !== true) this.#deaths.delete(oldest.value);
    }
    this.#gather(death);
    return death;
  }

  #gather(death: Death): void {
    if (death.gathering) return;
    death.gathering = true;
    this.#o.clock.setTimer(GATHER_MS, () => {
      death.gathering = false;
      this.#reportLost(death);
      this.#reportResumed(death);
    });
  }

  #reportLost(death: Death): void {
    if (death.reported) return;
    death.reported = true;
    const { router, streams, suspects } = death;
    const message = `${router} died under ${counted(streams)}, ${suspects} of them before their first tokens`;
    this.#o.log.append('router_lost', this.#o.source, message, { router, streams, suspects });
  }

  #reportResumed(death: Death): void {
    if (death.gathering || death.open > 0 || death.streams === 0) return;
    const { router, streams, resumed } = death;
    const longestPauseMs = Math.round(death.longestMs);
    const routers = [...death.heirs].toSorted();
    const message = `${resumed} of ${counted(streams)} of ${router} went on, after at most ${longestPauseMs} ms`;
    this.#o.log.append('stream_resumed', this.#o.source, message, {
      router,
      streams,
      resumed,
      longestPauseMs,
      routers,
    });
    Object.assign(death, { streams: 0, suspects: 0, resumed: 0, longestMs: 0, heirs: new Set<string>() });
  }
}

function counted(streams: number): string {
  return streams === 1 ? '1 stream' : `${streams} streams`;
}
