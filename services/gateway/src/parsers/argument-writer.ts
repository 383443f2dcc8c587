import { TYPE, type ValueTypes } from '../tools/value-types.ts';
import { escaped, JsonRepair, jsonWord } from './json-repair.ts';

/** Longest text that is still looked at as a number or constant where a string is possible too. */
const MAX_WORD = 64;
const NUMBER_BEGINNING = /^[+-]?\d*\.?\d*(?:[eE][+-]?\d*)?$/;
const BOOLEANS = ['true', 'false', 'True', 'False'];
const NULLS = ['null', 'None'];

type Mode = 'undecided' | 'string' | 'container';

/**
 * Turns the raw text of one argument into JSON while it arrives, by the types that the tool's schema allows. Strings
 * stream as soon as it is certain that they are strings, objects and arrays where no string is possible; numbers and
 * constants wait for their end. What fits no allowed type stays what it is in JSON, else it becomes a string.
 */
export class ArgumentWriter {
  readonly #types: ValueTypes;
  readonly #container = new JsonRepair();
  #mode: Mode;
  #opened = false;
  #held = '';

  constructor(types: ValueTypes) {
    this.#types = types;
    this.#mode = types === TYPE.string ? 'string' : 'undecided';
  }

  /** Takes text; returns JSON. */
  push(text: string): string {
    this.#held += text;
    if (this.#mode === 'undecided') this.#decide();
    if (this.#mode === 'string') return this.#string();
    if (this.#mode === 'undecided') return '';
    const { json } = this.#container.push(this.#held);
    this.#held = '';
    return json;
  }

  /** The rest, when the text has ended. */
  finish(): string {
    if (this.#mode === 'container') return this.#container.finish();
    if (this.#mode === 'undecided') return this.#whole(this.#held);
    const rest = this.#string() + escaped(this.#held);
    this.#held = '';
    return `${rest}"`;
  }

  /** Half a character waits for its other half, which JSON.stringify would write otherwise. */
  #string(): string {
    const last = this.#held.charCodeAt(this.#held.length - 1);
    const ready = this.#held.length - (last >= 0xd800 && last <= 0xdbff ? 1 : 0);
    const json = (this.#opened ? '' : '"') + escaped(this.#held.slice(0, ready));
    this.#opened = true;
    this.#held = this.#held.slice(ready);
    return json;
  }

  #allows(types: ValueTypes): boolean {
    return (this.#types & types) !== 0;
  }

  #decide(): void {
    const text = this.#held.trim();
    if (text === '') return;
    const isContainer = this.#opensContainer(text);
    if (this.#allows(TYPE.string)) {
      if (!isContainer && !this.#mayBeWord(text)) this.#mode = 'string';
    } else if (isContainer) this.#mode = 'container';
  }

  #opensContainer(text: string): boolean {
    return (text.startsWith('{') && this.#allows(TYPE.object)) || (text.startsWith('[') && this.#allows(TYPE.array));
  }

  #mayBeWord(text: string): boolean {
    if (text.length > MAX_WORD) return false;
    if (this.#allows(TYPE.number) && NUMBER_BEGINNING.test(text)) return true;
    if (this.#allows(TYPE.boolean) && BOOLEANS.some((word) => word.startsWith(text))) return true;
    return this.#allows(TYPE.null) && NULLS.some((word) => word.startsWith(text));
  }

  #whole(raw: string): string {
    const text = raw.trim();
    const word = this.#word(text);
    if (word !== undefined) return word;
    if (this.#allows(TYPE.string)) return this.#opensContainer(text) && isJson(text) ? text : JSON.stringify(raw);
    if (text === '') return this.#allows(TYPE.null) ? 'null' : '""';
    const unquoted = /^"([^"\\]*)"$/.exec(text)?.[1];
    const inner = unquoted === undefined ? undefined : this.#word(unquoted);
    return inner ?? (isJson(text) ? text : (jsonWord(text) ?? JSON.stringify(raw)));
  }

  /** The text as a number, boolean or null, if the schema allows what it is. */
  #word(text: string): string | undefined {
    const word = jsonWord(text);
    if (word === undefined) return /^(?:true|false)$/i.test(text) && this.#onlyBoolean ? text.toLowerCase() : undefined;
    const type = word === 'null' ? TYPE.null : word === 'true' || word === 'false' ? TYPE.boolean : TYPE.number;
    if (!this.#allows(type)) return undefined;
    // Where a string is possible too, only what JSON itself would write is a number: "007" and "+1" are strings.
    return type === TYPE.number && this.#allows(TYPE.string) && word !== text ? undefined : word;
  }

  get #onlyBoolean(): boolean {
    return this.#allows(TYPE.boolean) && !this.#allows(TYPE.string);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
