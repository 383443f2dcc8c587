import { Random } from '../../simulate/kernel/random.ts';
import { drawLength, type Lengths } from './lengths.ts';
import { textOf, type TokenRate } from './text.ts';
import type { Conversation, Message, Turn, Workload } from './workload.ts';

/** Options of synthetic conversations. */
export interface SyntheticOptions {
  seed: number;
  prompt: Lengths;
  output: Lengths;
  /** Tokens of a system prompt that conversations of a group share; 0 for none. */
  sharedPrefixTokens: number;
  /** Number of different shared prefixes. */
  prefixGroups: number;
  /** Requests of a conversation. */
  turns: Lengths;
  /** Mean time between an answer and the next request of its conversation, exponential. */
  thinkMs: number;
  rate: TokenRate;
}

/** Conversations without end whose lengths follow given distributions. */
export class SyntheticWorkload implements Workload {
  readonly timed = false;
  readonly #options: SyntheticOptions;

  constructor(options: SyntheticOptions) {
    this.#options = options;
  }

  get description(): string {
    const { prompt, output, sharedPrefixTokens, prefixGroups, turns } = this.#options;
    const shared = sharedPrefixTokens === 0 ? [] : [`${prefixGroups} shared prefixes of ${sharedPrefixTokens} tokens`];
    const several = turns.max === 1 ? [] : [`${named(turns)} turns`];
    return ['synthetic', `prompts ${named(prompt)}`, `answers ${named(output)}`, ...shared, ...several].join(', ');
  }

  *conversations(salt: string): Generator<Conversation, void> {
    for (let index = 0; ; index++) yield this.#conversation(index, salt);
  }

  #conversation(index: number, salt: string): Conversation {
    const { seed, turns, prefixGroups } = this.#options;
    // Lengths are drawn apart from texts, so that another salt changes the words only.
    const random = new Random(seed, `lengths ${index}`);
    const group = random.below(prefixGroups);
    const count = drawLength(random, turns);
    const all = Array.from({ length: count }, (_, turn) => this.#turn(random, `${salt} ${index} ${turn}`, turn));
    all[0]?.messages.unshift(...this.#prefix(`${salt} prefix ${group}`));
    return { index, atMs: null, turns: all };
  }

  #prefix(label: string): Message[] {
    const { seed, sharedPrefixTokens, rate } = this.#options;
    if (sharedPrefixTokens === 0) return [];
    return [{ role: 'system', content: textOf(seed, label, sharedPrefixTokens, rate) }];
  }

  #turn(random: Random, label: string, turn: number): Turn {
    const { seed, prompt, output, thinkMs, rate } = this.#options;
    const tokens = drawLength(random, prompt);
    const outputTokens = drawLength(random, output);
    const thinks = turn === 0 ? 0 : random.exponential(thinkMs);
    // The template's own tokens are part of the first prompt's length, as far as they fit.
    const words = turn === 0 ? Math.max(1, tokens - rate.overhead) : tokens;
    const content = textOf(seed, label, words, rate);
    return { messages: [{ role: 'user', content }], outputTokens, plannedTokens: tokens, thinkMs: thinks };
  }
}

function named({ kind, mean, sigma, min, max }: Lengths): string {
  if (kind === 'fixed') return `of ${mean}`;
  if (kind === 'uniform') return `of ${min} to ${max}`;
  return `log-normal of mean ${mean} and σ ${sigma}`;
}
