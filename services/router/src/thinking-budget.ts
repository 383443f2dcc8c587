/** How long a think block may become, in the engine's terms. */
export interface ThinkingSpec {
  /** Tokens of thinking after which the block is closed. */
  tokens: number;
  /** What closes it, the end tag last; never empty. */
  endIds: readonly number[];
}

/**
 * Closes the think block that an answer starts in once its budget is used up: from then on it names the tokens that
 * follow, until the block is closed. It depends on the generated tokens alone, so that replaying them gives the same.
 */
export class ThinkingBudget {
  readonly #spec: ThinkingSpec;
  #count = 0;
  #closed = false;

  constructor(spec: ThinkingSpec) {
    this.#spec = spec;
  }

  /** The token that comes next whatever the model says; null where it is the model's to say. */
  get forcedId(): number | null {
    if (this.#closed || this.#count < this.#spec.tokens) return null;
    return this.#spec.endIds[this.#count - this.#spec.tokens] ?? null;
  }

  /** Takes the next generated token. */
  push(id: number): void {
    const { tokens, endIds } = this.#spec;
    // A tag in the closing words themselves is theirs: they are said to their end.
    if (this.#count < tokens && id === endIds.at(-1)) this.#closed = true;
    this.#count += 1;
    if (this.#count >= tokens + endIds.length) this.#closed = true;
  }
}
