import type { Metadata } from '@grpc/grpc-js';
import type { Clock } from '@guildhall/common';
import type { control, router } from '@guildhall/proto';
import { generateOnce } from '../generate-client.ts';
import type { PricedCandidate } from './choose-router.ts';
import { PrefillBacklog } from './prefill-backlog.ts';

/** Time for which a router that failed is passed over, doubled by each further failure. */
const SUSPECT_MS = 500;
const MAX_SUSPECT_MS = 10_000;
/** Time in which a router that drains has said so in its report. */
const LEAVING_MS = 3000;
const INFO_DEADLINE_MS = 5000;
/** Time until a router that has not told of itself is asked again. */
const INFO_RETRY_MS = 1000;

/** What routers that can read each other's pages have in common. */
export interface PageClass {
  fingerprint: string;
  numericsId: string;
  /** Tokens of a named page; 0 where prefixes are not shared. */
  pageTokens: number;
}

/** A call that is on its way to a router or runs there, as its load counts it. */
export interface Reservation {
  /** Its first token has come: its prompt waits no more. */
  prefillDone(): void;
  /** It has ended. Further calls do nothing. */
  release(): void;
}

/** One incarnation of a router at one address, with its channel. */
export class RouterHandle implements PricedCandidate {
  readonly id: string;
  readonly incarnation: bigint;
  readonly address: string;
  readonly #client: router.RouterClient;
  readonly #metadata: Metadata;
  readonly #clock: Clock;
  readonly #backlog: PrefillBacklog;
  #member: control.Member;
  /** Bytes of the last report. */
  #report: Buffer;
  #leavingUntilMs = 0;
  #inFlight = 0;
  #inFlightAtReport = 0;
  #failures = 0;
  #suspectUntilMs = 0;
  #info: router.RouterInfo | null = null;
  #gone = false;
  readonly #retired = new AbortController();

  /** `report` holds the bytes that `member` was read from. */
  constructor(
    member: control.Member,
    report: Buffer,
    connection: { client: router.RouterClient; metadata: Metadata },
    clock: Clock,
  ) {
    this.id = member.id;
    this.incarnation = member.incarnation;
    this.address = member.address;
    this.#member = member;
    this.#report = report;
    this.#client = connection.client;
    this.#metadata = connection.metadata;
    this.#clock = clock;
    this.#backlog = new PrefillBacklog(clock);
    this.#takeReport();
  }

  get member(): control.Member {
    return this.#member;
  }

  /** Takes new requests. */
  get usable(): boolean {
    if (this.#gone || !this.#member.ready || this.#member.draining) return false;
    return this.#clock.monotonicMs() >= this.#leavingUntilMs;
  }

  /** Is a member, though it may take nothing new. */
  get alive(): boolean {
    return !this.#gone;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Longest context, once the router has told. */
  get maxContext(): number | null {
    return this.#info?.maxContext ?? null;
  }

  /** True once the router has told that its model keeps no state beside its pages. */
  get stateless(): boolean {
    return this.#info !== null && this.#info.stateBytes === 0n;
  }

  get pageClass(): PageClass {
    const { modelFingerprint: fingerprint, numericsId, pageTokens } = this.#member;
    return { fingerprint, numericsId, pageTokens };
  }

  /** What the router reported last, corrected by what has come and gone here since. */
  get load(): number {
    return Math.max(0, this.#member.running + this.#member.waiting + this.#inFlight - this.#inFlightAtReport);
  }

  get pendingPrefillTokens(): number {
    return this.#backlog.tokens;
  }

  get prefillMsPerToken(): number {
    return this.#member.prefillMsPerToken;
  }

  get decodeStepMs(): number {
    return this.#member.decodeStepMs;
  }

  get suspect(): boolean {
    return this.#clock.monotonicMs() < this.#suspectUntilMs;
  }

  /** Same process at the same place as the member says. */
  isSameAs(member: control.Member): boolean {
    return this.id === member.id && this.incarnation === member.incarnation && this.address === member.address;
  }

  /** Takes what the router says of itself now; what it has said already corrects nothing. */
  update(member: control.Member, report: Buffer): void {
    if (report.equals(this.#report)) return;
    this.#member = member;
    this.#report = report;
    this.#takeReport();
  }

  #takeReport(): void {
    const { pendingPrefillTokens, prefillMsPerToken } = this.#member;
    this.#inFlightAtReport = this.#inFlight;
    this.#backlog.report(Number(pendingPrefillTokens), prefillMsPerToken);
    this.#leavingUntilMs = 0;
  }

  /** It has moved a stream away: nothing is sent there until it reports again, or for a while. */
  noteDraining(): void {
    this.#leavingUntilMs = this.#clock.monotonicMs() + LEAVING_MS;
  }

  markFailed(): void {
    const pauseMs = Math.min(SUSPECT_MS * 2 ** this.#failures, MAX_SUSPECT_MS);
    this.#failures += 1;
    this.#suspectUntilMs = this.#clock.monotonicMs() + pauseMs;
  }

  /** The router is no member any more: no new calls; the channel closes when the last one has ended. */
  retire(): void {
    this.#gone = true;
    this.#retired.abort();
    if (this.#inFlight === 0) this.#client.close();
  }

  /** Asks the router for what its Member does not say, again and again until it has told or is gone. */
  async learnInfo(): Promise<void> {
    for (;;) {
      await this.refreshInfo();
      if (this.#info !== null || this.#gone) return;
      await this.#clock.sleep(INFO_RETRY_MS, this.#retired.signal).catch(() => undefined);
      if (this.#retired.signal.aborted) return;
    }
  }

  /** Asks once. A failure leaves the old answer. */
  refreshInfo(): Promise<void> {
    const deadline = new Date(this.#clock.nowMs() + INFO_DEADLINE_MS);
    return new Promise((resolve) => {
      this.#client.getInfo({}, this.#metadata, { deadline }, (err, info) => {
        if (err === null && info.maxContext > 0) this.#info = info;
        resolve();
      });
    });
  }

  /** Counts a call with so many tokens to compute before its first token. The caller must release it. */
  reserve(prefillTokens: number): Reservation {
    let waiting = true;
    let held = true;
    this.#inFlight += 1;
    const added = this.#backlog.add(prefillTokens);
    return {
      prefillDone: () => {
        if (waiting) this.#backlog.done(added);
        waiting = false;
      },
      release: () => {
        if (!held) return;
        held = false;
        this.#inFlight -= 1;
        if (waiting) this.#backlog.remove(added);
        if (this.#gone && this.#inFlight === 0) this.#client.close();
      },
    };
  }

  /** Runs one Generate call here, under a reservation. */
  async *generate(
    request: router.GenerateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<router.GenerateEvent, void, undefined> {
    for await (const event of generateOnce(this.#client, request, this.#metadata, signal)) {
      this.#failures = 0;
      yield event;
    }
  }
}
