import { parentPort, workerData } from 'node:worker_threads';
import { errorMessage, fail } from '@guildhall/common';
import type {
  CompileResult,
  GrammarSource,
  MatcherState,
  ThreadCall,
  ThreadMessage,
  ThreadOptions,
  ThreadReply,
} from './messages.ts';
import { CountingMatcher } from './counting-matcher.ts';
import { TokenLengths } from './token-lengths.ts';
import { type CompiledGrammar, type Compiler, loadXGrammar, type Matcher, type XGrammar } from './xgrammar.ts';

/** A compiled grammar and what it was compiled from. */
interface Compiled {
  grammar: CompiledGrammar;
  source: GrammarSource;
}

/** A matcher of the engine, and what counts for it where its grammar has bounds for strings. */
interface Held {
  matcher: Matcher;
  counting: CountingMatcher | null;
}

/** Compiles grammars and holds matchers, one call after the other. */
class GrammarThread {
  readonly #options: ThreadOptions;
  readonly #engine: ReturnType<typeof loadXGrammar>;
  /** With and without markers as text; made when first asked for. */
  readonly #compilers = new Map<boolean, Compiler>();
  /** Tokens and their lengths, by the same. */
  readonly #tokens = new Map<boolean, TokenLengths>();
  readonly #grammars = new Map<string, Compiled>();
  readonly #matchers = new Map<number, Held>();

  constructor(options: ThreadOptions) {
    this.#options = options;
    this.#engine = loadXGrammar(options.memoryBytes);
  }

  get #api(): XGrammar {
    return this.#engine.api;
  }

  /** Makes what the first grammar would have to wait for. */
  async start(): Promise<void> {
    await this.#compiler(false);
  }

  async answer(message: ThreadMessage): Promise<void> {
    if (message.kind === 'close') {
      this.#matchers.get(message.matcher)?.matcher.dispose();
      this.#matchers.delete(message.matcher);
    } else if (message.kind === 'forget') {
      this.#grammars.get(message.key)?.grammar.dispose();
      this.#grammars.delete(message.key);
    } else if (message.kind === 'compile') {
      reply({ kind: 'compiled', call: message.call, result: await this.#compile(message.source) });
    } else {
      const states = await this.#states(message);
      reply({ kind: 'states', call: message.call, states });
    }
  }

  /** What the engine said before it gave up. */
  explain(err: unknown): string {
    return this.#engine.lastFailure() ?? errorMessage(err);
  }

  async #compile(source: GrammarSource): Promise<CompileResult> {
    const { key, text, markers } = source;
    const begun = performance.now();
    if (!this.#grammars.has(key)) {
      const compiler = await this.#compiler(markers);
      const grammar = await (text.kind === 'ebnf'
        ? compiler.compileGrammar(text.text)
        : compiler.compileStructuralTag(text.text));
      this.#grammars.set(key, { grammar, source });
    }
    return { ms: performance.now() - begun, heapBytes: this.#engine.heapBytes() };
  }

  async #compiler(markers: boolean): Promise<Compiler> {
    const made = this.#compilers.get(markers);
    if (made !== undefined) return made;
    const { vocabulary } = this.#options;
    const tokens = [...this.#tokensOf(markers).tokens];
    const { TokenizerInfo, GrammarCompiler } = this.#api;
    const info = await TokenizerInfo.createTokenizerInfo(tokens, 'byte_level', false, vocabulary.size, [
      ...vocabulary.stopIds,
    ]);
    // The router keeps what was compiled; a second cache would only hold memory.
    const compiler = await GrammarCompiler.createGrammarCompiler(info, false);
    this.#compilers.set(markers, compiler);
    return compiler;
  }

  #tokensOf(markers: boolean): TokenLengths {
    const made = this.#tokens.get(markers);
    if (made !== undefined) return made;
    const { vocabulary } = this.#options;
    const tokens = vocabulary.tokens.slice();
    if (markers) for (const { id, token } of vocabulary.markers) tokens[id] = token;
    const lengths = new TokenLengths(tokens, vocabulary.size);
    this.#tokens.set(markers, lengths);
    return lengths;
  }

  async #states(message: Exclude<ThreadCall, { kind: 'compile' }>): Promise<MatcherState[]> {
    if (message.kind === 'open') return [await this.#open(message)];
    if (message.kind === 'rollback') {
      const { matcher, counting } = this.#held(message.matcher);
      if (counting === null) matcher.rollBack(message.count);
      else counting.rollback(message.count);
      return [await this.#state(message.matcher)];
    }
    const states: MatcherState[] = [];
    for (const [i, id] of message.matchers.entries()) {
      const taken = this.#accept(this.#held(id), message.tokens[i] as number);
      states.push(taken ? await this.#state(id) : 'refused');
    }
    return states;
  }

  async #open({ matcher: id, key, stopIds, tokens }: Extract<ThreadCall, { kind: 'open' }>): Promise<MatcherState> {
    const compiled = this.#grammars.get(key);
    if (compiled === undefined) throw fail('integrity', 'a matcher was asked for before its grammar');
    const { lengths } = compiled.source.text;
    const matcher = await this.#api.GrammarMatcher.createGrammarMatcher(compiled.grammar, [...stopIds]);
    const tokenLengths = this.#tokensOf(compiled.source.markers);
    const held = { matcher, counting: lengths === null ? null : new CountingMatcher(matcher, lengths, tokenLengths) };
    this.#matchers.set(id, held);
    for (const token of tokens) if (!this.#accept(held, token)) return 'refused';
    return await this.#state(id);
  }

  #held(id: number): Held {
    const held = this.#matchers.get(id);
    if (held === undefined) throw fail('integrity', `there is no matcher ${id}`);
    return held;
  }

  #accept({ matcher, counting }: Held, token: number): boolean {
    if (counting === null) return matcher.acceptToken(token);
    return this.#options.vocabulary.stopIds.includes(token) ? counting.acceptStop(token) : counting.accept(token);
  }

  async #state(id: number): Promise<MatcherState> {
    const { matcher, counting } = this.#held(id);
    if (matcher.isTerminated()) return 'ended';
    const mask = (await matcher.getNextTokenBitmask()) as Int32Array<ArrayBuffer>;
    const limited = counting === null ? mask : counting.limit(mask);
    return limited.every((word) => word === 0) ? 'stuck' : limited;
  }
}

function reply(message: ThreadReply): void {
  const masks = message.kind === 'states' ? message.states.filter((state) => typeof state !== 'string') : [];
  parentPort?.postMessage(
    message,
    masks.map(({ buffer }) => buffer),
  );
}

const thread = new GrammarThread(workerData as ThreadOptions);

/** An engine that failed is broken for good: the thread says why and ends. */
function giveUp(err: unknown): void {
  reply({ kind: 'failed', message: thread.explain(err) });
  parentPort?.close();
}

// One after the other: what is awaited resolves without waiting for anything outside.
let last = thread.start().then(() => reply({ kind: 'started' }));
last.catch(giveUp);
parentPort?.on('message', (message: ThreadMessage) => {
  last = last.then(() => thread.answer(message));
  last.catch(giveUp);
});
