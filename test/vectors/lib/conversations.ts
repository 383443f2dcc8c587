import fc from 'fast-check';

/** Conversations that a cache is tried with: what is asked, in which order, and what is asked at the same time. */

/** How many tokens a turn adds. */
export type Growth = { kind: 'tokens'; count: number } | { kind: 'toMultiple'; of: number };

/** One request. Numbers that choose among what is there are taken modulo its length. */
export interface Ask {
  /** Conversation to go on with; null begins one. */
  goOn: number | null;
  /** Tokens of the history that are kept, as a share, for a fork; null keeps the conversation going. */
  forkAt: number | null;
  /** Rounds the fork to a multiple of 64, then adds this; null leaves it. */
  forkOffset: number | null;
  growth: Growth;
  /** Makes the new tokens. */
  seed: number;
  maxTokens: number;
  sampled: boolean;
  topLogprobs: number;
  promptLogprobs: boolean;
  salt: string;
  choices: number;
  /** Tokens after which the caller leaves; null for a patient one. */
  cancelAfter: number | null;
}

/** Requests of a wave are in flight together; the next wave begins when all have ended. */
export type Script = Ask[][];

const growth: fc.Arbitrary<Growth> = fc.oneof(
  fc.record({ kind: fc.constant('tokens' as const), count: fc.integer({ min: 1, max: 260 }) }),
  fc.record({ kind: fc.constant('tokens' as const), count: fc.constantFrom(1, 63, 64, 65, 127, 128, 129) }),
  fc.record({ kind: fc.constant('toMultiple' as const), of: fc.constantFrom(64, 128) }),
);

const ask: fc.Arbitrary<Ask> = fc.record({
  goOn: fc.option(fc.nat(15), { freq: 4 }),
  forkAt: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 1 }),
  forkOffset: fc.option(fc.constantFrom(-1, 0, 1), { freq: 2 }),
  growth,
  seed: fc.nat(1_000_000),
  maxTokens: fc.constantFrom(1, 2, 7, 30, 66),
  sampled: fc.boolean(),
  topLogprobs: fc.constantFrom(0, 0, 3),
  promptLogprobs: fc.nat(7).map((n) => n === 0),
  salt: fc.constantFrom('', '', '', 'a', 'b'),
  choices: fc.constantFrom(1, 1, 1, 2, 3),
  cancelAfter: fc.option(fc.constantFrom(0, 1, 5), { freq: 5 }).map((value) => value),
});

/** Scripts of up to `waves` waves. */
export function scripts(waves: number): fc.Arbitrary<Script> {
  return fc.array(fc.array(ask, { minLength: 1, maxLength: 4 }), { minLength: 3, maxLength: waves });
}

/** Token ids [count] that depend on the seed only, within a vocabulary of `vocab`. */
export function tokensOf(seed: number, count: number, vocab: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    let hash = Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(i + 1, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    return ((hash ^ (hash >>> 13)) >>> 0) % vocab;
  });
}

/** A conversation so far: tokens of prompts and answers. */
export interface Conversation {
  ids: number[];
  salt: string;
}

/** The conversations of a run. */
export class Conversations {
  readonly #vocab: number;
  readonly #limit: number;
  readonly #all: Conversation[] = [];

  /** Prompts are at most `limit` tokens. */
  constructor(vocab: number, limit: number) {
    this.#vocab = vocab;
    this.#limit = limit;
  }

  /** The conversation that an ask is about, and its prompt. Beginnings are one of two system prompts. */
  prompt(ask: Ask): { conversation: Conversation; promptIds: number[] } {
    const conversation = this.#base(ask);
    const { growth, seed } = ask;
    const history = conversation.ids;
    const missing = growth.kind === 'tokens' ? growth.count : growth.of - (history.length % growth.of) || growth.of;
    const promptIds = [...history, ...tokensOf(seed, missing, this.#vocab)].slice(0, this.#limit);
    return { conversation, promptIds };
  }

  #base(ask: Ask): Conversation {
    const known = ask.goOn === null ? undefined : this.#all[ask.goOn % Math.max(1, this.#all.length)];
    if (known === undefined) {
      const length = ask.seed % 2 === 0 ? 130 : 256;
      return this.#add({ ids: tokensOf(-length, length, this.#vocab), salt: ask.salt });
    }
    if (ask.forkAt === null && known.ids.length < this.#limit) return known;
    let cut = Math.floor((ask.forkAt ?? 0.3) * known.ids.length);
    if (ask.forkOffset !== null) cut = Math.max(0, cut - (cut % 64) + ask.forkOffset);
    return this.#add({ ids: known.ids.slice(0, cut), salt: known.salt });
  }

  #add(conversation: Conversation): Conversation {
    this.#all.push(conversation);
    return conversation;
  }
}
