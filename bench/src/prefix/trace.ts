import { seededRandom } from '@guildhall/router/policy';

/** A seeded trace of many users who talk in turns, as a cache of prefixes is meant for. */

/** What a trace looks like. Lengths are tokens; those with `mean` are drawn from half of it to one and a half times it. */
export interface TraceShape {
  seed: number;
  users: number;
  /** System prompts that users share; the first is the most popular one. */
  systems: number;
  systemTokens: number;
  /** Turns of a user, from 1 to this. */
  turns: number;
  meanTurnTokens: number;
  meanAnswerTokens: number;
  /** Share of the users with several turns who ask one of them twice, in other words: two continuations of a history. */
  forks: number;
  /** Users that begin each second. */
  arrivalsPerSecond: number;
  /** Between an answer and the next turn. */
  meanThinkMs: number;
  /** Token ids are below it. */
  vocab: number;
}

/** One request of a trace. Its prompt is the history of `after`, if any, and `tokens`. */
export interface TraceTurn {
  user: number;
  /** Turn whose prompt and answer come before, as an index into the trace; null where a conversation begins. */
  after: number | null;
  /** What is new in the prompt: the system prompt and the first question, or the next question. */
  tokens: number[];
  /** Stands for the answer in later prompts, so that every replay asks the same; the answer has as many tokens. */
  answer: number[];
  /** When it is sent: milliseconds after the start, or after the answer to `after`. */
  delayMs: number;
}

export type Trace = TraceTurn[];

class Draws {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  chance(share: number): boolean {
    return this.#next() < share;
  }

  /** From half the mean to one and a half times it. */
  around(mean: number): number {
    return Math.max(1, Math.round(mean * (0.5 + this.#next())));
  }

  /** Exponentially distributed: the gaps of a Poisson process. */
  gap(mean: number): number {
    return -mean * Math.log(1 - this.#next());
  }

  /** From 0 to `count` - 1, the first one twice as often as the second, and so on. */
  popular(count: number): number {
    const total = 2 ** count - 1;
    const draw = this.#next() * total;
    let rank = 0;
    for (let edge = 2 ** (count - 1); draw >= edge && rank < count - 1; edge += 2 ** (count - 1 - rank)) rank += 1;
    return rank;
  }

  tokens(count: number, vocab: number): number[] {
    return Array.from({ length: count }, () => this.below(vocab));
  }
}

/** The same trace for the same shape. A turn comes after the one that it goes on from. */
export function makeTrace(shape: TraceShape): Trace {
  const draws = new Draws(shape.seed);
  const systems = Array.from({ length: shape.systems }, () => draws.tokens(shape.systemTokens, shape.vocab));
  const trace: Trace = [];
  let arrivesMs = 0;
  for (let user = 0; user < shape.users; user++) {
    arrivesMs += draws.gap(1000 / shape.arrivalsPerSecond);
    addUser(trace, { user, arrivesMs, system: systems[draws.popular(shape.systems)] ?? [] }, draws, shape);
  }
  return trace;
}

function addUser(
  trace: Trace,
  { user, arrivesMs, system }: { user: number; arrivesMs: number; system: number[] },
  draws: Draws,
  shape: TraceShape,
): void {
  const turns = 1 + draws.below(shape.turns);
  const forked = turns > 1 && draws.chance(shape.forks) ? 1 + draws.below(turns - 1) : -1;
  let after: number | null = null;
  for (let turn = 0; turn < turns; turn++) {
    const previous: number | null = after;
    const ask = (): number => {
      const question = draws.tokens(draws.around(shape.meanTurnTokens), shape.vocab);
      return trace.push({
        user,
        after: previous,
        tokens: previous === null ? [...system, ...question] : question,
        answer: draws.tokens(draws.around(shape.meanAnswerTokens), shape.vocab),
        delayMs: previous === null ? arrivesMs : draws.gap(shape.meanThinkMs),
      });
    };
    // A fork leads nowhere itself: the conversation goes on from the other one.
    if (turn === forked) ask();
    after = ask() - 1;
  }
}

/** The prompt of a turn: its history and what is new. */
export function promptOf(trace: Trace, index: number): number[] {
  const turn = trace[index];
  if (turn === undefined) return [];
  const history = turn.after === null ? [] : [...promptOf(trace, turn.after), ...(trace[turn.after]?.answer ?? [])];
  return [...history, ...turn.tokens];
}

/** Tokens of all prompts, and of all answers. */
export function traceTokens(trace: Trace): { prompts: number; answers: number } {
  const prompts = trace.reduce((sum, _, index) => sum + promptOf(trace, index).length, 0);
  return { prompts, answers: trace.reduce((sum, { answer }) => sum + answer.length, 0) };
}
