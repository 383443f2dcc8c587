import { type CharSet, charSet, literal } from './ebnf.ts';
import type { Effort } from './effort.ts';
import { type LengthPhases, RegexError, type RegexNode } from './regex.ts';
import { utf8Ranges } from './utf8-ranges.ts';

/** A regular part of a grammar and the text that goes on after it: '' for nothing, null where there is no way on. */
export interface Branch {
  node: RegexNode;
  rest: string | null;
}

/** States that an expression may take. */
const MAX_NFA_STATES = 200_000;
const MAX_STATES = 8192;
/** Steps of a range of characters. */
const STEPS_OF_RANGE = 4;

interface NfaState {
  empty: number[];
  edges: { low: number; high: number; target: number }[];
}

/** Thompson's construction over bytes. */
class Nfa {
  readonly states: NfaState[] = [];
  readonly #effort: Effort;

  constructor(effort: Effort) {
    this.#effort = effort;
  }

  add(): number {
    this.#effort.spend(1);
    if (this.states.length >= MAX_NFA_STATES) throw tooLarge();
    return this.states.push({ empty: [], edges: [] }) - 1;
  }

  link(from: number, to: number): void {
    this.states[from]?.empty.push(to);
  }

  /** Adds a node after `from`; returns where it ends. */
  node(node: RegexNode, from: number): number {
    switch (node.kind) {
      case 'chars':
        return this.#chars(node.set, from);
      case 'byte': {
        const end = this.add();
        this.states[from]?.edges.push({ low: node.byte, high: node.byte, target: end });
        return end;
      }
      case 'sequence':
        return node.items.reduce((at, item) => this.node(item, at), from);
      case 'choice': {
        const end = this.add();
        for (const option of node.options) this.link(this.node(option, from), end);
        return end;
      }
      case 'repeat':
        return this.#repeat(node, from);
      case 'counted':
        return this.#counted(node.item, node.phases, from);
    }
  }

  /**
   * A copy of the item's states for each phase: below the least length, from there on, and at the most, where no byte may
   * follow. Events lead from one to the next. They are fed between characters only, so that it does no harm that states
   * within a character take them too.
   */
  #counted(item: RegexNode, { events, least, most }: LengthPhases, from: number): number {
    const begin = this.add();
    const end = this.node(item, begin);
    const size = this.states.length - begin;
    const copies = [begin];
    while (copies.length < 3) copies.push(this.#copy(begin, size));
    const phaseAfter = (event: number, phase: number): number =>
      event === most ? 2 : event === least ? Math.max(phase, 1) : phase;
    for (const [phase, first] of copies.entries()) {
      for (let i = 0; i < size; i++) {
        if (phase === 2) (this.states[first + i] as NfaState).edges = [];
        for (const [event, bytes] of events.entries()) {
          this.#bytes(bytes, first + i, (copies[phaseAfter(event, phase)] as number) + i);
        }
      }
    }
    this.link(from, copies[least === null ? 1 : 0] as number);
    const done = this.add();
    for (const first of copies.slice(1)) this.link(first + (end - begin), done);
    return done;
  }

  #copy(begin: number, size: number): number {
    const moved = this.states.length - begin;
    for (const { empty, edges } of this.states.slice(begin, begin + size)) {
      const copy = this.states[this.add()] as NfaState;
      copy.empty = empty.map((id) => id + moved);
      copy.edges = edges.map((edge) => ({ ...edge, target: edge.target + moved }));
    }
    return begin + moved;
  }

  #bytes(bytes: readonly number[], from: number, to: number): void {
    let at = from;
    for (const [i, byte] of bytes.entries()) {
      const target = i === bytes.length - 1 ? to : this.add();
      this.states[at]?.edges.push({ low: byte, high: byte, target });
      at = target;
    }
  }

  #chars(set: CharSet, from: number): number {
    const end = this.add();
    for (const sequence of utf8Ranges(set)) {
      this.#effort.spend(STEPS_OF_RANGE);
      let at = from;
      for (const [i, [low, high]] of sequence.entries()) {
        const target = i === sequence.length - 1 ? end : this.add();
        this.states[at]?.edges.push({ low, high, target });
        at = target;
      }
    }
    return end;
  }

  #repeat({ item, min, max }: Extract<RegexNode, { kind: 'repeat' }>, from: number): number {
    let at = from;
    for (let i = 0; i < min; i++) at = this.node(item, at);
    if (max === null) {
      const loop = this.add();
      this.link(at, loop);
      this.link(this.node(item, loop), loop);
      return loop;
    }
    const end = this.add();
    this.link(at, end);
    for (let i = min; i < max; i++) {
      at = this.node(item, at);
      this.link(at, end);
    }
    return end;
  }
}

function tooLarge(): RegexError {
  return new RegexError('its repetitions and alternatives make too many states');
}

interface DfaState {
  nfa: readonly number[];
  /** Branch that may end here, the first of several. */
  accepts: number | null;
  edges: { set: CharSet; target: number }[];
}

/** The subset construction: at most one way to go on at each byte. */
class Dfa {
  readonly states: DfaState[] = [];
  readonly #nfa: Nfa;
  readonly #effort: Effort;
  /** Branch that ends at a state of the other automaton. */
  readonly #ends: ReadonlyMap<number, number>;
  readonly #known = new Map<string, number>();

  constructor(branches: readonly Branch[], effort: Effort) {
    this.#effort = effort;
    this.#nfa = new Nfa(effort);
    const start = this.#nfa.add();
    this.#ends = new Map(
      branches.map(({ node }, i) => {
        const begin = this.#nfa.add();
        this.#nfa.link(start, begin);
        return [this.#nfa.node(node, begin), i];
      }),
    );
    this.#state([start]);
    // The list grows while it is walked.
    for (const state of this.states) state.edges = this.#edges(state);
  }

  #state(seeds: readonly number[]): number {
    const closed = new Set(seeds);
    for (const id of closed) for (const next of this.#nfa.states[id]?.empty ?? []) closed.add(next);
    this.#effort.spend(closed.size);
    const nfa = [...closed].sort((a, b) => a - b);
    const key = nfa.join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.states.length >= MAX_STATES) throw tooLarge();
    const accepts = nfa.reduce((least, id) => Math.min(least, this.#ends.get(id) ?? Infinity), Infinity);
    this.#known.set(key, this.states.length);
    return this.states.push({ nfa, accepts: accepts === Infinity ? null : accepts, edges: [] }) - 1;
  }

  #edges({ nfa }: DfaState): DfaState['edges'] {
    const edges = nfa.flatMap((id) => this.#nfa.states[id]?.edges ?? []);
    const cuts = [...new Set(edges.flatMap(({ low, high }) => [low, high + 1]))].sort((a, b) => a - b);
    const targetsAt = this.#targets(edges, cuts);
    const byTarget = new Map<number, [number, number][]>();
    for (const [i, low] of cuts.slice(0, -1).entries()) {
      const targets = targetsAt[i] as number[];
      if (targets.length === 0) continue;
      const target = this.#state(targets);
      byTarget.set(target, [...(byTarget.get(target) ?? []), [low, (cuts[i + 1] as number) - 1]]);
    }
    return [...byTarget].map(([target, ranges]) => ({ set: charSet(ranges), target }));
  }

  /** Where the edges lead from each cut on, up to the next one. */
  #targets(edges: NfaState['edges'], cuts: readonly number[]): number[][] {
    const places = new Map(cuts.map((low, i) => [low, i]));
    const targets = cuts.map((): number[] => []);
    for (const { low, high, target } of edges) {
      const from = places.get(low) as number;
      const to = places.get(high + 1) as number;
      this.#effort.spend(to - from);
      for (let i = from; i < to; i++) targets[i]?.push(target);
    }
    return targets;
  }
}

/** Gives a text a name, perhaps later than the name is used. */
export interface RuleWriter {
  readonly effort: Effort;
  reserve(): string;
  define(name: string, text: string): void;
}

/**
 * A class of bytes. The engine takes code points above 127 in a class as bytes, but for one that is alone in its class,
 * which it takes as a character: such a one is written twice.
 */
function byteClass(set: CharSet): string {
  const byte = (value: number): string => `\\x${value.toString(16).toUpperCase().padStart(2, '0')}`;
  const text = set.map(([low, high]) => (low === high ? byte(low) : `${byte(low)}-${byte(high)}`)).join('');
  const [first] = set;
  const isAlone = set.length === 1 && first !== undefined && first[0] === first[1] && first[0] > 0x7f;
  return `[${isAlone ? text + text : text}]`;
}

/**
 * Writes alternatives as rules that leave no choice: one for each state in which more than one byte may follow. The
 * engine compiles ambiguous alternatives of characters wrongly (`[3-8] [0-9] | "1" [1-8] [0-9] | "1" [1-8] [0-9] [0-9]`
 * takes "8379" too), and takes no character beyond ASCII in a class for what it is. Returns a text that refers to them.
 * Throws RegexError and EffortError for what is too large.
 */
export function deterministicText(branches: readonly Branch[], rules: RuleWriter): string {
  const { states } = new Dfa(branches, rules.effort);
  const isDead = ({ edges, accepts }: DfaState): boolean =>
    edges.length === 0 && accepts !== null && branches[accepts]?.rest === null;
  const names = new Map<number, string>();
  const pending: number[] = [];
  const thenOf = (accepts: number | null): string => (accepts === null ? '' : (branches[accepts]?.rest ?? ''));
  const reference = (id: number): string => {
    const { text, at } = straight(states, id);
    const state = states[at] as DfaState;
    const end = state.edges.length === 0 ? thenOf(state.accepts) : named(at);
    return text === '' ? end : `${literal(text)} ${end}`;
  };
  const named = (id: number): string => {
    const known = names.get(id);
    if (known !== undefined) return known;
    const name = rules.reserve();
    names.set(id, name);
    pending.push(id);
    return name;
  };
  const text = reference(0);
  for (let id = pending.pop(); id !== undefined; id = pending.pop()) {
    const { edges, accepts } = states[id] as DfaState;
    const options = edges
      .filter(({ target }) => !isDead(states[target] as DfaState))
      .map(({ set, target }) => `${byteClass(set)} ${reference(target)}`);
    if (accepts !== null && branches[accepts]?.rest !== null) options.push(thenOf(accepts) || '""');
    rules.define(names.get(id) as string, options.join(' | '));
  }
  return text.trim() === '' ? '""' : text;
}

/** Follows a state as long as one printable character is all that may come. */
function straight(states: readonly DfaState[], from: number): { text: string; at: number } {
  let [text, at] = ['', from];
  for (const seen = new Set<number>(); !seen.has(at);) {
    seen.add(at);
    const { edges, accepts } = states[at] as DfaState;
    const [edge] = edges;
    const [low, high] = edge?.set[0] ?? [0, 1];
    if (accepts !== null || edges.length !== 1 || edge === undefined || edge.set.length !== 1) break;
    if (low !== high || low < 0x20 || low > 0x7e || seen.has(edge.target)) break;
    text += String.fromCharCode(low);
    at = edge.target;
  }
  return { text, at };
}
