import { fail } from '@guildhall/common';
import { StopStrings } from './stop-strings.ts';

/** When a sequence ends, as its request says it. */
export interface StopSpec {
  /** Tokens to generate at most, already cut to what the context allows. */
  maxTokens: number;
  /** No end before this many tokens. */
  minTokens: number;
  stopStrings: readonly string[];
  /** The checkpoint's end ids, unless ignored, and the request's own. */
  stopIds: readonly number[];
}

/** Text of token ids as they come; never half a character. */
export interface Detokenizer {
  push(id: number): string;
}

/** Why a sequence ended by itself. */
export interface StopReason {
  kind: 'stop' | 'length';
  stopString: string | null;
  stopTokenId: number | null;
}

const AT_LENGTH: StopReason = { kind: 'length', stopString: null, stopTokenId: null };

/** Judges each generated token of one sequence in turn. Replaying the same tokens gives the same answers. */
export class StopConditions {
  readonly #spec: StopSpec;
  readonly #stopIds: ReadonlySet<number>;
  readonly #strings: StopStrings;
  readonly #detokenizer: Detokenizer | null;
  #count = 0;

  /** `detokenizer` may be null when there are no stop strings. */
  constructor(spec: StopSpec, detokenizer: Detokenizer | null) {
    this.#spec = spec;
    this.#stopIds = new Set(spec.stopIds);
    this.#strings = new StopStrings(spec.stopStrings);
    this.#detokenizer = this.#strings.isEmpty ? null : detokenizer;
  }

  /** Takes the next generated token; returns why the sequence ends with it, or null. */
  push(id: number): StopReason | null {
    this.#count += 1;
    const active = this.#count > this.#spec.minTokens;
    if (active && this.#stopIds.has(id)) return { kind: 'stop', stopString: null, stopTokenId: id };
    if (this.#detokenizer !== null) {
      const found = this.#strings.push(this.#detokenizer.push(id), active);
      if (found !== null) return { kind: 'stop', stopString: found, stopTokenId: null };
    }
    return this.atLimit() ? AT_LENGTH : null;
  }

  /**
   * Takes the tokens that were generated before a resume; returns why the sequence has ended with them, or null. Throws
   * `invalid_value` when they go on past their own end.
   */
  replay(ids: Iterable<number>): StopReason | null {
    let reason = this.atLimit() ? AT_LENGTH : null;
    let index = 0;
    for (const id of ids) {
      if (reason !== null) {
        throw fail('invalid_value', `generated_ids go on past the end at ${index} tokens`, { field: 'generated_ids' });
      }
      reason = this.push(id);
      index += 1;
    }
    return reason;
  }

  /** True when no further token may be generated. */
  atLimit(): boolean {
    return this.#count >= this.#spec.maxTokens;
  }
}
