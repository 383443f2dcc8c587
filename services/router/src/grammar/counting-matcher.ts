import { BEGIN_BYTE, lengthEvent, type StringLengths } from '@guildhall/common/grammar';
import type { TokenMask } from './messages.ts';
import { BACKSLASH, continuationBytes, LINE_BREAK, type Place, QUOTE, type TokenLengths } from './token-lengths.ts';
import type { Matcher } from './xgrammar.ts';

/** Tokens that are tried one by one for a mask; further ones are left out. */
const MAX_TRIALS = 256;
const BEGIN = Uint8Array.of(BEGIN_BYTE);

/** Where a matcher stands. */
interface Position {
  place: Place;
  /** Characters that the string has, the one that has begun included. */
  count: number;
  /** Bytes that its last character still lacks. */
  lacks: number;
}

/**
 * A matcher whose strings are counted here: where a string has a length that the grammar names, the event of that length is
 * fed to the engine between its characters. The engine's masks know of no event that would come within a token. So tokens
 * that go past a maxLength are taken out of them; passing a minLength within a token does no harm, since until then
 * the engine lets no string end.
 */
export class CountingMatcher {
  readonly #matcher: Matcher;
  readonly #lengths: StringLengths;
  readonly #tokens: TokenLengths;
  readonly #events: ReadonlyMap<number, Uint8Array>;
  /** Before each token: where it stood, and how often the engine was fed since. */
  readonly #history: { before: Position; feeds: number }[] = [];
  #at: Position = { place: 'outside', count: 0, lacks: 0 };

  constructor(matcher: Matcher, lengths: StringLengths, tokens: TokenLengths) {
    this.#matcher = matcher;
    this.#lengths = lengths;
    this.#tokens = tokens;
    this.#events = new Map(lengths.all.map((length, i) => [length, Uint8Array.from(lengthEvent(i))]));
  }

  /** Takes a token that ends no answer; false, and nothing has changed, where it does not match. */
  accept(id: number): boolean {
    const step = { before: { ...this.#at }, feeds: 0 };
    this.#history.push(step);
    const taken = this.#feedToken(this.#tokens.bytes(id), step);
    if (!taken) this.rollback(1);
    return taken;
  }

  /** Takes a token that ends the answer. */
  acceptStop(id: number): boolean {
    const taken = this.#matcher.acceptToken(id);
    if (taken) this.#history.push({ before: { ...this.#at }, feeds: 1 });
    return taken;
  }

  rollback(count: number): void {
    for (let i = 0; i < count; i++) {
      const last = this.#history.pop();
      if (last === undefined) return;
      if (last.feeds > 0) this.#matcher.rollBack(last.feeds);
      this.#at = last.before;
    }
  }

  /** Takes out of the engine's mask what would go past a length. */
  limit(mask: TokenMask): TokenMask {
    const { place, count, lacks } = this.#at;
    remove(mask, this.#tokens.impossible);
    const { maxima } = this.#lengths;
    const [smallest] = maxima;
    if (smallest === undefined) return mask;
    if (place !== 'outside') {
      // Until its last character is whole a string has not been told that it is full.
      const isOpen = place === 'escape' || lacks > 0;
      const next = maxima.find((length) => (isOpen ? length >= count : length > count));
      if (next !== undefined) remove(mask, this.#tokens.longerLead(place, next - count));
    }
    this.#tryEach(mask, this.#tokens.longerInner(place, smallest));
    return mask;
  }

  /** Tokens that may begin a string and fill it are tried, events and all. */
  #tryEach(mask: TokenMask, doubtful: TokenMask | null): void {
    if (doubtful === null) return;
    let trials = 0;
    for (let word = 0; word < mask.length; word++) {
      let bits = (mask[word] as number) & (doubtful[word] as number);
      for (; bits !== 0; bits &= bits - 1) {
        const lowest = bits & -bits;
        if (trials++ < MAX_TRIALS && this.#fits(word * 32 + (31 - Math.clz32(lowest)))) continue;
        mask[word] = (mask[word] as number) & ~lowest;
      }
    }
  }

  #fits(id: number): boolean {
    if (!this.accept(id)) return false;
    this.rollback(1);
    return true;
  }

  /** Feeds a token and its events; `step` is told how often the engine was fed. False where it refuses. */
  #feedToken(bytes: Uint8Array, step: { feeds: number }): boolean {
    const at = this.#at;
    let from = 0;
    const feedUpTo = (end: number): boolean => {
      if (end === from) return true;
      const taken = feed(this.#matcher, bytes.subarray(from, end));
      if (taken) step.feeds += 1;
      from = end;
      return taken;
    };
    for (const [i, byte] of bytes.entries()) {
      if (at.place === 'outside') {
        if (byte !== QUOTE && byte !== LINE_BREAK) continue;
        if (!feedUpTo(i + 1)) return false;
        const place: Place = byte === QUOTE ? 'inside' : 'line';
        if (this.#begins()) Object.assign(at, { place, count: 0, lacks: 0 });
      } else if (this.#endsCharacter(byte)) {
        const event = this.#events.get(at.count);
        if (event === undefined) continue;
        if (!feedUpTo(i + 1)) return false;
        if (feed(this.#matcher, event)) step.feeds += 1;
        // Whatever may still match here is not counted.
        else at.place = 'outside';
      }
    }
    return feedUpTo(bytes.length);
  }

  /** Moves on within a string; true if a character of it is whole now. */
  #endsCharacter(byte: number): boolean {
    const at = this.#at;
    if (at.place === 'escape') {
      at.place = 'inside';
      return true;
    }
    if (at.lacks > 0) {
      at.lacks -= 1;
      return at.lacks === 0;
    }
    if (byte === (at.place === 'line' ? LINE_BREAK : QUOTE)) {
      at.place = 'outside';
      return false;
    }
    at.count += 1;
    if (byte === BACKSLASH && at.place === 'inside') {
      at.place = 'escape';
      return false;
    }
    at.lacks = continuationBytes(byte);
    return at.lacks === 0;
  }

  /** Whether a counted string begins after the byte that was fed last. Free text takes the byte any number of times. */
  #begins(): boolean {
    if (!feed(this.#matcher, BEGIN)) return false;
    const isFree = feed(this.#matcher, BEGIN);
    this.#matcher.rollBack(isFree ? 2 : 1);
    return !isFree;
  }
}

/** The binding takes bytes where it declares text. */
function feed(matcher: Matcher, bytes: Uint8Array): boolean {
  return (matcher as unknown as { _acceptString(bytes: Uint8Array): boolean })._acceptString(bytes);
}

function remove(mask: TokenMask, other: TokenMask | null): void {
  if (other === null) return;
  for (let word = 0; word < mask.length; word++) mask[word] = (mask[word] as number) & ~(other[word] as number);
}
