/** What the writer expects next. */
type State = 'value' | 'first-item' | 'first-key' | 'key' | 'colon' | 'separator' | 'done' | 'lost';

const SPACE = /\s/;
const BARE = /[\w.+-]/;
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const LOOSE_NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const SIMPLE_ESCAPES = new Set('"\\/bfnrt');
const WORDS: ReadonlyMap<string, string> = new Map([
  ['true', 'true'],
  ['false', 'false'],
  ['null', 'null'],
  ['True', 'true'],
  ['False', 'false'],
  ['None', 'null'],
]);

/** A word as JSON: a constant in JSON's or Python's spelling, or a number; undefined for anything else. */
export function jsonWord(word: string): string | undefined {
  if (JSON_NUMBER.test(word)) return word;
  if (LOOSE_NUMBER.test(word) && Number.isFinite(Number(word))) return String(Number(word));
  return WORDS.get(word);
}

/** Text as the inside of a JSON string. */
export function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/**
 * Writes a JSON object or array while it arrives, without its white space. What is written is the beginning of valid
 * JSON at any time, whatever comes: constants and quotes of Python, keys without quotes and commas too many are put
 * right; from the first thing that makes no sense on, the rest becomes one string in its place, so that nothing is
 * lost and the reader's own schema finds it.
 */
export class JsonRepair {
  readonly #open: ('{' | '[')[] = [];
  #state: State = 'value';
  /** The quote that ends the string being read; '' outside of strings. */
  #quote = '';
  #stringIsKey = false;
  /** An escape that is not complete, with its backslash. */
  #escape = '';
  #bare = '';
  #comma = false;
  /** The unfinished high half of a character. */
  #half = '';
  /** What is to be written behind the text that could not be read. */
  #afterLost = '';

  /** The value is complete; text that follows is not part of it. */
  get done(): boolean {
    return this.#state === 'done';
  }

  /** Takes text; returns JSON, and what follows the value once it is complete. */
  push(text: string): { json: string; rest: string } {
    let json = '';
    for (let at = 0; at < text.length; at += 1) {
      if (this.#state === 'done') return { json, rest: text.slice(at) };
      json += this.#char(text.charAt(at));
    }
    return { json, rest: '' };
  }

  /** Closes whatever is open. */
  finish(): string {
    let json = this.#bare === '' ? '' : this.#endBare();
    if (this.#state === 'lost') json += `${this.#takeHalf()}"${this.#afterLost}`;
    else if (this.#quote !== '') json += this.#endString();
    if (this.#state === 'colon') json += ':null';
    if (this.#state === 'value' && this.#open.at(-1) === '{') json += 'null';
    if (this.#state === 'value' && this.#open.length === 0) json += 'null';
    while (this.#open.length > 0) json += this.#open.pop() === '{' ? '}' : ']';
    this.#state = 'done';
    return json;
  }

  #char(char: string): string {
    if (this.#state === 'lost') return this.#stringChar(char);
    if (this.#quote !== '') return this.#escape === '' ? this.#quoted(char) : this.#escapeChar(char);
    if (this.#bare !== '' || BARE.test(char)) {
      if (BARE.test(char)) {
        this.#bare += char;
        return '';
      }
      const word = this.#endBare();
      return word + this.#char(char);
    }
    return SPACE.test(char) ? '' : this.#mark(char);
  }

  #mark(char: string): string {
    if (char === '"' || char === "'") return this.#beginString(char);
    if (char === '{' || char === '[') return this.#beginContainer(char);
    if (char === '}' || char === ']') return this.#endContainer(char);
    if (char === ':' && this.#state === 'colon') {
      this.#state = 'value';
      return ':';
    }
    if (char === ',' && this.#state === 'separator') {
      this.#comma = true;
      this.#state = this.#open.at(-1) === '{' ? 'key' : 'first-item';
      return '';
    }
    return this.#lose(char);
  }

  get #expectsKey(): boolean {
    return this.#state === 'key' || this.#state === 'first-key';
  }

  get #expectsValue(): boolean {
    return this.#state === 'value' || this.#state === 'first-item';
  }

  #takeComma(): string {
    const comma = this.#comma ? ',' : '';
    this.#comma = false;
    return comma;
  }

  #beginContainer(char: '{' | '['): string {
    if (!this.#expectsValue) return this.#lose(char);
    const comma = this.#takeComma();
    this.#open.push(char);
    this.#state = char === '{' ? 'first-key' : 'first-item';
    return comma + char;
  }

  #endContainer(char: string): string {
    const inner = this.#open.at(-1);
    const mayEnd = this.#state === 'separator' || this.#state.startsWith('first-') || this.#state === 'key';
    if (!mayEnd || inner !== (char === '}' ? '{' : '[')) return this.#lose(char);
    this.#open.pop();
    this.#comma = false;
    this.#valueEnded();
    return char;
  }

  #valueEnded(): void {
    this.#state = this.#open.length === 0 ? 'done' : 'separator';
  }

  #beginString(quote: string): string {
    if (!this.#expectsKey && !this.#expectsValue) return this.#lose(quote);
    this.#quote = quote;
    this.#stringIsKey = this.#expectsKey;
    return `${this.#takeComma()}"`;
  }

  #endString(): string {
    const rest = this.#takeHalf() + escaped(this.#escape);
    this.#quote = '';
    this.#escape = '';
    if (this.#stringIsKey) this.#state = 'colon';
    else this.#valueEnded();
    return `${rest}"`;
  }

  #quoted(char: string): string {
    if (char === this.#quote) return this.#endString();
    if (char !== '\\') return this.#stringChar(char);
    this.#escape = char;
    return this.#takeHalf();
  }

  #escapeChar(char: string): string {
    const escape = this.#escape + char;
    if (escape.length === 2 && SIMPLE_ESCAPES.has(char)) return this.#endEscape(escape);
    if (escape === '\\u' || (escape.length > 2 && /[\da-fA-F]/.test(char))) {
      this.#escape = escape;
      return escape.length === 6 ? this.#endEscape(escape) : '';
    }
    if (escape === "\\'") return this.#endEscape("'");
    // No escape of JSON: the backslash is meant as it stands.
    const written = this.#endEscape(escaped(this.#escape));
    return written + this.#quoted(char);
  }

  #endEscape(written: string): string {
    this.#escape = '';
    return written;
  }

  #stringChar(char: string): string {
    const text = this.#half + char;
    this.#half = '';
    if (text.length === 1 && char >= '\ud800' && char <= '\udbff') {
      this.#half = char;
      return '';
    }
    return escaped(text);
  }

  #takeHalf(): string {
    const half = escaped(this.#half);
    this.#half = '';
    return half;
  }

  #endBare(): string {
    const word = this.#bare;
    this.#bare = '';
    if (this.#expectsKey) {
      this.#state = 'colon';
      return `${this.#takeComma()}"${escaped(word)}"`;
    }
    const value = this.#expectsValue ? jsonWord(word) : undefined;
    if (value === undefined) return this.#lose(word);
    const comma = this.#takeComma();
    this.#valueEnded();
    return comma + value;
  }

  /** The rest, from `text` on, becomes one string. */
  #lose(text: string): string {
    const comma = this.#state === 'separator' ? ',' : this.#takeComma();
    const colon = this.#state === 'colon' ? ':' : '';
    const isKey = this.#expectsKey || (this.#state === 'separator' && this.#open.at(-1) === '{');
    this.#afterLost = isKey ? ':null' : '';
    this.#state = 'lost';
    let json = `${colon === '' ? comma : colon}"`;
    for (const unit of text) json += this.#stringChar(unit);
    return json;
  }
}
