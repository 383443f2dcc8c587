import { createHash } from 'node:crypto';
import { type Clock, fail, isGuildhallError, type Logger } from '@guildhall/common';
import { type ConstraintText, type GrammarText, grammarText } from '@guildhall/common/grammar';
import { EngineThread } from './engine-thread.ts';
import { Lane } from './lane.ts';
import type { GrammarSource, ThreadOptions } from './messages.ts';
import { type GrammarTokens, type PreparedGrammar, SequenceGrammar } from './sequence-grammar.ts';
import type { Vocabulary } from './vocabulary.ts';

/** What an answer must match, as requests have it. */
export interface ConstraintSpec extends ConstraintText {
  /** 0 for at once. */
  afterToken: number;
  /** Added tokens match as their text. */
  addedTokens: boolean;
}

export interface GrammarsOptions {
  vocabulary: Vocabulary;
  clock: Clock;
  logger: Logger;
  /** Time that a grammar may take to compile, milliseconds. */
  compileLimitMs: number;
  /** Memory of an engine, bytes. */
  memoryBytes: number;
  /** How long a grammar took to compile, and what came of it. */
  onCompiled?: (outcome: 'compiled' | 'refused', ms: number) => void;
  /** What came of the grammar of a request. */
  onPrepared?: (outcome: PreparedOutcome) => void;
}

/** `kept`: it was compiled already. `shared`: another request was having it compiled. */
export type PreparedOutcome = 'kept' | 'shared' | 'compiled' | 'refused' | 'overloaded';

/** A grammar whose compilation takes longer stays in the thread where it was compiled, so that no step waits for it. */
const LIGHT_MS = 100;
/** Threads of such grammars. */
const MAX_HEAVY = 4;
/** Compiled grammars that are kept for further requests, and the bytes of their texts. */
const MAX_KEPT = 256;
const MAX_KEPT_BYTES = 16 << 20;
/** Requests that may wait for a grammar to be compiled. */
const MAX_WAITING = 64;
const FIELD = 'constraint';

interface Entry {
  source: GrammarSource;
  lane: Lane;
  compileMs: number;
  users: number;
  /** Alone in its lane. */
  heavy: boolean;
}

/**
 * Compiles what answers must match and makes matchers. A new grammar is compiled on trial first, in a thread that may
 * fail or be ended: the engine gives up whole on a grammar that it does not understand, and some take minutes. What
 * compiled there is compiled once more where matchers live; what took long stays there. Nothing of it runs on the thread of
 * the step loop.
 */
export class Grammars {
  readonly #o: GrammarsOptions;
  readonly #tokens: GrammarTokens;
  readonly #thread: ThreadOptions;
  readonly #kept = new Map<string, Entry>();
  readonly #pending = new Map<string, Promise<Entry>>();
  #trial: EngineThread | null = null;
  #trials: Promise<unknown> = Promise.resolve();
  #light: Lane | null = null;
  #bytes = 0;

  constructor(options: GrammarsOptions) {
    this.#o = options;
    const { vocabulary, memoryBytes } = options;
    this.#thread = { vocabulary, memoryBytes };
    this.#tokens = sharedTokens(vocabulary);
  }

  /** Starts the threads, so that the first request does not wait for them. */
  start(): void {
    this.#trial ??= this.#newThread();
    this.#light ??= this.#newLane();
  }

  /**
   * Compiles what a request asks for, or finds it compiled. Call `release` of what it returns, or close the matcher made
   * from it. Errors: `invalid_value` and `unsupported`, naming the field; `overloaded`.
   */
  async prepare(constraint: ConstraintSpec): Promise<PreparedGrammar> {
    const { afterToken, addedTokens } = constraint;
    if (afterToken >= this.#o.vocabulary.size) {
      throw fail('invalid_value', `${FIELD}.after_token: ${afterToken} is no token`, { field: FIELD });
    }
    const entry = await this.#entryOf(constraint, addedTokens);
    entry.users += 1;
    let released = false;
    return {
      source: entry.source,
      lane: entry.lane,
      compileMs: entry.compileMs,
      afterToken: afterToken === 0 ? null : afterToken,
      release: () => {
        if (!released) entry.users -= 1;
        released = true;
      },
    };
  }

  /** A matcher for one sequence, with the tokens that it has generated. */
  matcher(prepared: PreparedGrammar, generated: Iterable<number>): SequenceGrammar {
    return new SequenceGrammar(prepared, this.#tokens, generated);
  }

  async stop(): Promise<void> {
    const lanes = new Set([...this.#kept.values()].map(({ lane }) => lane));
    await Promise.all([this.#trial?.terminate(), this.#light?.stop(), ...[...lanes].map((lane) => lane.stop())]);
  }

  async #entryOf(constraint: ConstraintText, addedTokens: boolean): Promise<Entry> {
    try {
      const text = grammarText(constraint, FIELD);
      const markers = addedTokens || text.kind === 'structural_tag';
      const source = { key: keyOf(text, markers), text, markers };
      const kept = this.#kept.get(source.key);
      const outcome = kept !== undefined ? 'kept' : this.#pending.has(source.key) ? 'shared' : 'compiled';
      const entry = kept === undefined ? await this.#compiled(source) : this.#again(source.key, kept);
      this.#o.onPrepared?.(outcome);
      return entry;
    } catch (err) {
      this.#o.onPrepared?.(isGuildhallError(err) && err.code === 'overloaded' ? 'overloaded' : 'refused');
      throw err;
    }
  }

  /** Last used, last to go. */
  #again(key: string, kept: Entry): Entry {
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    return kept;
  }

  async #compiled(source: GrammarSource): Promise<Entry> {
    let pending = this.#pending.get(source.key);
    if (pending === undefined) {
      if (this.#pending.size >= MAX_WAITING) {
        throw fail('overloaded', `${MAX_WAITING} grammars wait to be compiled`, { field: FIELD });
      }
      pending = this.#compile(source).finally(() => this.#pending.delete(source.key));
      this.#pending.set(source.key, pending);
    }
    return await pending;
  }

  async #compile(source: GrammarSource): Promise<Entry> {
    const trial = this.#trials.then(() => this.#try(source));
    this.#trials = trial.catch(() => undefined);
    const compileMs = await trial;
    const heavy = compileMs > LIGHT_MS;
    const lane = heavy ? this.#adopt() : (this.#light ??= this.#newLane());
    const heapBytes = await lane.compile(source, compileMs);
    this.#makeRoom(source.text.text.length, !heavy && heapBytes > this.#o.memoryBytes / 2);
    const entry = { source, lane, compileMs, users: 0, heavy };
    this.#kept.set(source.key, entry);
    this.#bytes += source.text.text.length;
    return entry;
  }

  /** Makes a lane of the thread that has just compiled a grammar. */
  #adopt(): Lane {
    const heavy = [...this.#kept].filter(([, entry]) => entry.heavy);
    if (heavy.length >= MAX_HEAVY) {
      const idle = heavy.find(([, { users }]) => users === 0);
      if (idle === undefined) throw fail('overloaded', `${MAX_HEAVY} large grammars are in use`, { field: FIELD });
      this.#forget(...idle);
    }
    const thread = this.#trial ?? this.#newThread();
    this.#trial = this.#newThread();
    return new Lane({ thread: this.#thread, clock: this.#o.clock, logger: this.#o.logger }, thread);
  }

  /** Compiles on trial; returns the milliseconds that it took. */
  async #try(source: GrammarSource): Promise<number> {
    if (this.#trial === null || this.#trial.lost !== null) this.#trial = this.#newThread();
    const { clock, compileLimitMs, onCompiled } = this.#o;
    const begun = clock.monotonicMs();
    try {
      const { ms } = await this.#trial.compile(source, compileLimitMs);
      onCompiled?.('compiled', ms);
      return ms;
    } catch (err) {
      onCompiled?.('refused', clock.monotonicMs() - begun);
      // The next request finds a thread that has started.
      this.#trial = this.#newThread();
      throw refusal(err, compileLimitMs);
    }
  }

  /** Forgets what was used longest ago; all small ones that nobody uses once their engine has `grown` large. */
  #makeRoom(bytes: number, grown: boolean): void {
    for (const [key, entry] of this.#kept) {
      const full = this.#kept.size >= MAX_KEPT || this.#bytes + bytes > MAX_KEPT_BYTES;
      if (entry.users === 0 && (full || (grown && !entry.heavy))) this.#forget(key, entry);
    }
  }

  #forget(key: string, { lane, source, heavy }: Entry): void {
    this.#kept.delete(key);
    this.#bytes -= source.text.text.length;
    if (heavy) void lane.stop();
    else lane.forget(key);
  }

  #newThread(): EngineThread {
    return new EngineThread(this.#thread, this.#o.clock);
  }

  #newLane(): Lane {
    return new Lane({ thread: this.#thread, clock: this.#o.clock, logger: this.#o.logger });
  }
}

function refusal(err: unknown, limitMs: number): Error {
  const late = isGuildhallError(err) && err.code === 'deadline_exceeded';
  const message = late
    ? `takes more than ${limitMs} ms to compile: too complex; counted repetitions ({m,n} of expressions and grammars) cost most`
    : `cannot be compiled: ${wordsOf(err)}`;
  return fail('invalid_value', `${FIELD}: ${message}`, { field: FIELD, cause: err });
}

/** The engine's words. Exceptions of its own come out of it as the number of an address. */
function wordsOf(err: unknown): string {
  const words = err instanceof Error ? err.message : '';
  return /^\d*$/.test(words) ? 'the grammar engine refuses it' : words.slice(0, 512);
}

function keyOf(text: GrammarText, markers: boolean): string {
  return createHash('sha256')
    .update(`${text.kind} ${markers} ${JSON.stringify(text.lengths)} ${text.text}`)
    .digest('base64');
}

function sharedTokens({ tokens, size, stopIds }: Vocabulary): GrammarTokens {
  const lineBreaks = new Map<number, number>();
  for (const [id, token] of tokens.entries()) {
    // A line break in the byte-level alphabet.
    if (token === 'Ċ' || token === 'ĊĊ') lineBreaks.set(id, token.length);
  }
  const allButStops = new Int32Array(Math.ceil(size / 32)).fill(-1);
  for (const id of stopIds) allButStops[id >>> 5] = (allButStops[id >>> 5] as number) & ~(1 << (id & 31));
  return { stopIds, lineBreaks, allButStops };
}
