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
import { type CompiledGrammar, type Compiler, loadXGrammar, type Matcher, type XGrammar } from './xgrammar.ts';

/** Compiles grammars and holds matchers, one call after the other. */
class GrammarThread {
  readonly #options: ThreadOptions;
  readonly #engine: ReturnType<typeof loadXGrammar>;
  /** With and without markers as text; made when first asked for. */
  readonly #compilers = new Map<boolean, Compiler>();
  readonly #grammars = new Map<string, CompiledGrammar>();
  readonly #matchers = new Map<number, Matcher>();

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
      this.#matchers.get(message.matcher)?.dispose();
      this.#matchers.delete(message.matcher);
    } else if (message.kind === 'forget') {
      this.#grammars.get(message.key)?.dispose();
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

  async #compile({ key, text, markers }: GrammarSource): Promise<CompileResult> {
    const begun = performance.now();
    if (!this.#grammars.has(key)) {
      const compiler = await this.#compiler(markers);
      const grammar = await (text.kind === 'ebnf'
        ? compiler.compileGrammar(text.text)
        : compiler.compileStructuralTag(text.text));
      this.#grammars.set(key, grammar);
    }
    return { ms: performance.now() - begun, heapBytes: this.#engine.heapBytes() };
  }

  async #compiler(markers: boolean): Promise<Compiler> {
    const made = this.#compilers.get(markers);
    if (made !== undefined) return made;
    const { vocabulary } = this.#options;
    const tokens = vocabulary.tokens.slice();
    if (markers) for (const { id, token } of vocabulary.markers) tokens[id] = token;
    const { TokenizerInfo, GrammarCompiler } = this.#api;
    const info = await TokenizerInfo.createTokenizerInfo(tokens, 'byte_level', false, vocabulary.size, [
      ...vocabulary.stopIds,
    ]);
    // The router keeps what was compiled; a second cache would only hold memory.
    const compiler = await GrammarCompiler.createGrammarCompiler(info, false);
    this.#compilers.set(markers, compiler);
    return compiler;
  }

  async #states(message: Exclude<ThreadCall, { kind: 'compile' }>): Promise<MatcherState[]> {
    if (message.kind === 'open') return [await this.#open(message)];
    if (message.kind === 'rollback') {
      this.#matcher(message.matcher).rollBack(message.count);
      return [await this.#state(message.matcher)];
    }
    const states: MatcherState[] = [];
    for (const [i, id] of message.matchers.entries()) {
      const taken = this.#matcher(id).acceptToken(message.tokens[i] as number);
      states.push(taken ? await this.#state(id) : 'refused');
    }
    return states;
  }

  async #open({ matcher: id, key, stopIds, tokens }: Extract<ThreadCall, { kind: 'open' }>): Promise<MatcherState> {
    const grammar = this.#grammars.get(key);
    if (grammar === undefined) throw fail('integrity', 'a matcher was asked for before its grammar');
    const matcher = await this.#api.GrammarMatcher.createGrammarMatcher(grammar, [...stopIds]);
    this.#matchers.set(id, matcher);
    for (const token of tokens) if (!matcher.acceptToken(token)) return 'refused';
    return await this.#state(id);
  }

  #matcher(id: number): Matcher {
    const matcher = this.#matchers.get(id);
    if (matcher === undefined) throw fail('integrity', `there is no matcher ${id}`);
    return matcher;
  }

  async #state(id: number): Promise<MatcherState> {
    const matcher = this.#matcher(id);
    return matcher.isTerminated() ? 'ended' : ((await matcher.getNextTokenBitmask()) as Int32Array<ArrayBuffer>);
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
