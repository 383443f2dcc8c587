import type { pages } from '@guildhall/proto';
import { pagesFor } from '../page-pool.ts';
import { BlobAssembly, type Checksum } from './blob-assembly.ts';
import { pullFault } from './wire.ts';

/** What the taking router knows of the sequence itself. */
export interface ExpectedSequence {
  /** Tokens of prompt and answer so far. */
  numTokens: number;
  /** SHA-256 over the first `count` token ids, as little-endian u32. */
  digest: (count: number) => Buffer;
  /** Whole named pages of its prompt, in pages of 64 tokens, and how many of those a named page has. */
  maxSharedPages: number;
  group: number;
  /** Bytes of 64 tokens. */
  pageBytes: number;
  /** 0 for models without recurrent state. */
  stateBytes: number;
}

/** A piece of a parked sequence: page `what` of its table, or its state. */
export interface SequencePiece {
  what: number | 'state';
  data: Uint8Array;
  checksum: number;
}

/** A parked sequence on its way: its head, its own pages in order, then its state. All of it is checked. */
export class SequenceReader {
  readonly #expected: ExpectedSequence;
  readonly #checksum: Checksum;
  #head: pages.SequenceHead | null = null;
  #nextPage = 0;
  #hasState = false;
  #current: { what: number | 'state'; assembly: BlobAssembly } | null = null;

  constructor(expected: ExpectedSequence, checksum: Checksum) {
    this.#expected = expected;
    this.#checksum = checksum;
  }

  /** The head, once it has come. */
  get head(): pages.SequenceHead | null {
    return this.#head;
  }

  /** Takes a message; returns the piece that it completes. Errors: `corrupt`, `checksum`. */
  async take({ part }: pages.FetchReply): Promise<SequencePiece | null> {
    if (part?.$case === 'sequence') this.#begin(part.value);
    else if (part?.$case === 'head') this.#next(part.value);
    else if (part?.$case === 'data') return await this.#add(part.value);
    else throw pullFault('corrupt', 'an empty message came');
    return null;
  }

  /** The transfer has ended. Errors: `truncated` unless everything has come. */
  end(): pages.SequenceHead {
    const head = this.#head;
    const whole =
      head !== null && this.#nextPage === head.numPages && (this.#hasState || this.#expected.stateBytes === 0);
    if (!whole || this.#current !== null) throw pullFault('truncated', 'not all of the sequence came');
    return head;
  }

  #begin(head: pages.SequenceHead): void {
    const { numTokens, digest, maxSharedPages, group } = this.#expected;
    const { numComputed, numPages, firstOwnPage, tokenDigest } = head;
    if (this.#head !== null) throw pullFault('corrupt', 'a second head of the sequence came');
    // The newest token is never computed: the step that does it samples the next one.
    if (numComputed < 1 || numComputed >= numTokens || numPages !== pagesFor(numComputed)) {
      throw pullFault('corrupt', `${numComputed} tokens in ${numPages} pages came for a sequence of ${numTokens}`);
    }
    if (firstOwnPage > Math.min(numPages, maxSharedPages) || firstOwnPage % group !== 0) {
      throw pullFault('corrupt', `the first ${firstOwnPage} pages cannot be shared ones`);
    }
    if (!digest(numComputed).equals(tokenDigest)) throw pullFault('corrupt', 'the sequence has other tokens');
    this.#head = head;
    this.#nextPage = firstOwnPage;
  }

  #next(head: pages.BlobHead): void {
    if (this.#head === null || this.#current !== null || this.#hasState) {
      throw pullFault('corrupt', 'a blob came where none belongs');
    }
    const { pageBytes, stateBytes } = this.#expected;
    const isPage = this.#nextPage < this.#head.numPages;
    if (!isPage && stateBytes === 0) throw pullFault('corrupt', 'a state came for a model without');
    const expected = isPage
      ? ({ kind: 'page', size: pageBytes } as const)
      : ({ kind: 'state', size: stateBytes } as const);
    if (isPage && head.index !== this.#nextPage) {
      throw pullFault('corrupt', `page ${head.index} came instead of page ${this.#nextPage}`);
    }
    this.#current = { what: isPage ? this.#nextPage : 'state', assembly: new BlobAssembly(head, expected) };
  }

  async #add(data: Uint8Array): Promise<SequencePiece | null> {
    if (this.#current === null) throw pullFault('corrupt', `${data.length} bytes came without a head`);
    const { what, assembly } = this.#current;
    assembly.add(data);
    if (!assembly.complete) return null;
    const bytes = await assembly.finish(this.#checksum);
    this.#current = null;
    if (what === 'state') this.#hasState = true;
    else this.#nextPage += 1;
    return { what, data: bytes, checksum: assembly.head.checksum };
  }
}
