import { fail } from '@guildhall/common';
import type { Lane } from './lane.ts';
import type { GrammarSource, MatcherState, TokenMask } from './messages.ts';

/** A compiled grammar and where its matchers live. */
export interface PreparedGrammar {
  source: GrammarSource;
  lane: Lane;
  compileMs: number;
  /** The grammar begins after this token; null for at once. */
  afterToken: number | null;
  /** It is no longer needed by the sequence that it was prepared for. */
  release(): void;
}

/** What all sequences of a checkpoint share. */
export interface GrammarTokens {
  /** Ids that end an answer. */
  stopIds: readonly number[];
  /** Tokens that are one or two line breaks and nothing else, and how many. */
  lineBreaks: ReadonlyMap<number, number>;
  /** Bit for every id but those of `stopIds`. */
  allButStops: TokenMask;
}

/** Line breaks that the model may write between its thoughts and its answer; they are no part of the answer. */
const GAP_BREAKS = 2;
/** Threads that a sequence's matcher may lose before the sequence fails. */
const MAX_REBUILDS = 2;

/** Where the tokens of a sequence have led: what the grammar has seen of them. */
interface Progress {
  phase: 'thinking' | 'gap' | 'grammar';
  breaks: number;
  /** Tokens that the grammar has taken. */
  taken: number[];
}

/**
 * Holds one sequence to its grammar. All of its state follows from the tokens that were generated, so that a replay leads
 * to the same. Masks are made while the next step computes.
 */
export class SequenceGrammar {
  readonly #prepared: PreparedGrammar;
  readonly #tokens: GrammarTokens;
  readonly #ids: number[] = [];
  #progress: Progress;
  #matcher = -1;
  #generation = -1;
  #state: Promise<MatcherState> = Promise.resolve('refused');
  #rebuilds = 0;
  #closed = false;

  /** `generated`: tokens of the answer that were generated before. */
  constructor(prepared: PreparedGrammar, tokens: GrammarTokens, generated: Iterable<number>) {
    this.#prepared = prepared;
    this.#tokens = tokens;
    this.#progress = this.#start();
    for (const id of generated) {
      this.#ids.push(id);
      this.#take(id);
    }
    this.#follow(this.#open());
  }

  /** Takes the next token of the answer. */
  accept(id: number): void {
    this.#ids.push(id);
    if (!this.#take(id)) return;
    const { lane } = this.#prepared;
    const before = this.#state;
    const advanced = async (): Promise<MatcherState> =>
      (await before) === 'refused' ? 'refused' : await lane.advance(this.#matcher, id);
    this.#follow(lane.generation === this.#generation ? advanced() : this.#open());
  }

  /** Takes the last `count` tokens back, as if they had never been accepted. */
  rollback(count: number): void {
    if (count > this.#ids.length)
      throw fail('integrity', `${this.#ids.length} tokens cannot be rolled back by ${count}`);
    const before = this.#progress.taken.length;
    this.#ids.length -= count;
    this.#progress = this.#start();
    for (const id of this.#ids) this.#take(id);
    const steps = before - this.#progress.taken.length;
    if (steps === 0) return;
    const { lane } = this.#prepared;
    const last = this.#state.then(
      () => lane.rollback(this.#matcher, steps),
      () => this.#open(),
    );
    this.#follow(lane.generation === this.#generation ? last : this.#open());
  }

  /**
   * Which tokens may follow. Throws `invalid_value` where the grammar leads nowhere, and `internal` if nothing is known:
   * a token did not match, or the engine is lost.
   */
  async mask(): Promise<TokenMask> {
    if (this.#progress.phase === 'thinking') return this.#tokens.allButStops;
    const state = await this.#state;
    if (state === 'ended') throw fail('internal', 'the answer has ended, and its grammar with it');
    if (state === 'refused') throw fail('internal', "a generated token does not match the request's grammar");
    if (state === 'stuck')
      throw fail('invalid_value', 'the grammar leads to a place after which no text matches', { field: 'constraint' });
    return this.#progress.phase === 'gap' ? this.#withBreaks(state) : state;
  }

  /** Frees the matcher. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { lane } = this.#prepared;
    if (lane.generation === this.#generation) lane.close(this.#matcher);
    this.#prepared.release();
  }

  #start(): Progress {
    return { phase: this.#prepared.afterToken === null ? 'grammar' : 'thinking', breaks: 0, taken: [] };
  }

  /** Moves on by a token; true if it is one for the grammar. */
  #take(id: number): boolean {
    const progress = this.#progress;
    if (progress.phase === 'thinking') {
      if (id === this.#prepared.afterToken) progress.phase = 'gap';
      return false;
    }
    const breaks = progress.phase === 'gap' ? this.#tokens.lineBreaks.get(id) : undefined;
    if (breaks !== undefined && progress.breaks + breaks <= GAP_BREAKS) {
      progress.breaks += breaks;
      return false;
    }
    progress.phase = 'grammar';
    progress.taken.push(id);
    return true;
  }

  #withBreaks(mask: TokenMask): TokenMask {
    const wider = mask.slice();
    for (const [id, breaks] of this.#tokens.lineBreaks) {
      if (this.#progress.breaks + breaks <= GAP_BREAKS)
        wider[id >>> 5] = (wider[id >>> 5] as number) | (1 << (id & 31));
    }
    return wider;
  }

  /** Keeps the state that a call leads to; a lost thread is replaced, and the matcher opened in the new one. */
  #follow(call: Promise<MatcherState>): void {
    // Later tokens are sent for themselves; a rollback begins another list.
    const { taken } = this.#progress;
    const count = taken.length;
    const state = call.catch(async (err: unknown) => {
      if (this.#closed || ++this.#rebuilds > MAX_REBUILDS) throw err;
      return await this.#open(taken.slice(0, count));
    });
    state.catch(() => undefined);
    this.#state = state;
  }

  async #open(taken = this.#progress.taken.slice()): Promise<MatcherState> {
    const { lane, source, compileMs } = this.#prepared;
    this.#generation = lane.generation;
    this.#matcher = lane.newMatcher();
    const matcher = this.#matcher;
    // Compiled there already, unless the thread is a new one.
    await lane.compile(source, compileMs);
    const state = await lane.open(matcher, source.key, this.#tokens.stopIds, taken);
    if (this.#closed) lane.close(matcher);
    return state;
  }
}
