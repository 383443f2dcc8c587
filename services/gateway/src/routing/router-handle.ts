import type { Metadata } from '@grpc/grpc-js';
import type { Clock } from '@guildhall/common';
import type { control, router } from '@guildhall/proto';
import { generateOnce } from '../generate-client.ts';
import type { Candidate } from './choose-router.ts';

/** Time for which a router that failed is passed over, doubled by each further failure. */
const SUSPECT_MS = 500;
const MAX_SUSPECT_MS = 10_000;
const INFO_DEADLINE_MS = 5000;

/** One incarnation of a router at one address, with its channel. */
export class RouterHandle implements Candidate {
  readonly id: string;
  readonly incarnation: bigint;
  readonly address: string;
  readonly #client: router.RouterClient;
  readonly #metadata: Metadata;
  readonly #clock: Clock;
  #member: control.Member;
  #inFlight = 0;
  #inFlightAtReport = 0;
  #failures = 0;
  #suspectUntilMs = 0;
  #maxContext: number | null = null;
  #gone = false;

  constructor(member: control.Member, client: router.RouterClient, metadata: Metadata, clock: Clock) {
    this.id = member.id;
    this.incarnation = member.incarnation;
    this.address = member.address;
    this.#member = member;
    this.#client = client;
    this.#metadata = metadata;
    this.#clock = clock;
  }

  get member(): control.Member {
    return this.#member;
  }

  /** Takes new requests. */
  get usable(): boolean {
    return !this.#gone && this.#member.ready && !this.#member.draining;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Longest context, once the router has told. */
  get maxContext(): number | null {
    return this.#maxContext;
  }

  /** What the router reported last, corrected by what has come and gone here since. */
  get load(): number {
    return Math.max(0, this.#member.running + this.#member.waiting + this.#inFlight - this.#inFlightAtReport);
  }

  get suspect(): boolean {
    return this.#clock.monotonicMs() < this.#suspectUntilMs;
  }

  /** Same process at the same place as the member says. */
  isSameAs(member: control.Member): boolean {
    return this.id === member.id && this.incarnation === member.incarnation && this.address === member.address;
  }

  update(member: control.Member): void {
    this.#member = member;
    this.#inFlightAtReport = this.#inFlight;
  }

  markFailed(): void {
    const pauseMs = Math.min(SUSPECT_MS * 2 ** this.#failures, MAX_SUSPECT_MS);
    this.#failures += 1;
    this.#suspectUntilMs = this.#clock.monotonicMs() + pauseMs;
  }

  /** The router is no member any more: no new calls; the channel closes when the last one has ended. */
  retire(): void {
    this.#gone = true;
    if (this.#inFlight === 0) this.#client.close();
  }

  /** Asks the router for what its Member does not say. A failure leaves the old answer. */
  refreshInfo(): Promise<void> {
    const deadline = new Date(this.#clock.nowMs() + INFO_DEADLINE_MS);
    return new Promise((resolve) => {
      this.#client.getInfo({}, this.#metadata, { deadline }, (err, info) => {
        if (err === null && info.maxContext > 0) this.#maxContext = info.maxContext;
        resolve();
      });
    });
  }

  /** Runs one Generate call here. */
  async *generate(
    request: router.GenerateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<router.GenerateEvent, void, undefined> {
    this.#inFlight += 1;
    try {
      for await (const event of generateOnce(this.#client, request, this.#metadata, signal)) {
        this.#failures = 0;
        yield event;
      }
    } finally {
      this.#inFlight -= 1;
      if (this.#gone && this.#inFlight === 0) this.#client.close();
    }
  }
}
