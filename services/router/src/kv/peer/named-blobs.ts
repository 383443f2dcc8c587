import { NAME_BYTES, type PageName } from '@guildhall/common';
import type { pages } from '@guildhall/proto';
import type { Blob, BlobKind } from '../blob.ts';
import { BlobAssembly, type Checksum } from './blob-assembly.ts';
import { pullFault, toWireKind } from './wire.ts';

/** A shared blob that another router was asked for. */
export interface WantedBlob {
  kind: BlobKind;
  name: PageName;
  /** Tokens that a page must have; empty for a state. */
  tokens: Int32Array;
  size: number;
}

/** A holder's word about what a blob is worth counts up to an hour of computing. */
const MAX_VALUE_MS = 3_600_000;

/** The shared blobs of one transfer, checked one after the other against what was asked for. */
export class NamedBlobs {
  readonly wanted: readonly WantedBlob[];
  readonly #checksum: Checksum;
  /** The next wanted blob that may come; those before came or were left out. */
  #next = 0;
  #came = 0;
  #current: { blob: WantedBlob; assembly: BlobAssembly } | null = null;

  constructor(wanted: readonly WantedBlob[], checksum: Checksum) {
    this.wanted = wanted;
    this.#checksum = checksum;
  }

  /** Takes a message; returns the blob that it completes. Errors: `corrupt`, `checksum`. */
  async take({ part }: pages.FetchReply): Promise<Blob | null> {
    if (part?.$case === 'head') this.#begin(part.value);
    else if (part?.$case === 'data') return await this.#add(part.value);
    else throw pullFault('corrupt', `a message of another kind came: ${part?.$case ?? 'none'}`);
    return null;
  }

  /** The holder has sent what it has; true if that is everything. Errors: `truncated`. */
  end(): boolean {
    if (this.#current !== null)
      throw pullFault('truncated', `the transfer ended inside of a ${this.#current.blob.kind}`);
    return this.#came === this.wanted.length;
  }

  #begin(head: pages.BlobHead): void {
    if (this.#current !== null) throw pullFault('corrupt', `a head came inside of a ${this.#current.blob.kind}`);
    const blob = this.#find(head);
    if (!sameTokens(head.tokenIds, blob.tokens)) {
      throw pullFault('corrupt', `a ${blob.kind} of other tokens came under the name that was asked for`);
    }
    this.#current = { blob, assembly: new BlobAssembly(head, blob) };
  }

  /** The wanted blob that a head announces; those before it were left out. */
  #find(head: pages.BlobHead): WantedBlob {
    const name = head.name.length === NAME_BYTES ? Buffer.from(head.name).toString('latin1') : null;
    for (let at = this.#next; at < this.wanted.length; at++) {
      const blob = this.wanted[at] as WantedBlob;
      if (blob.name !== name || toWireKind(blob.kind) !== head.kind) continue;
      this.#next = at + 1;
      return blob;
    }
    throw pullFault('corrupt', 'a blob came that was not asked for, or not in this order');
  }

  async #add(data: Uint8Array): Promise<Blob | null> {
    if (this.#current === null) throw pullFault('corrupt', `${data.length} bytes came without a head`);
    const { blob, assembly } = this.#current;
    assembly.add(data);
    if (!assembly.complete) return null;
    const bytes = await assembly.finish(this.#checksum);
    this.#current = null;
    this.#came += 1;
    const { checksum, value } = assembly.head;
    return { ...blob, checksum, value: value > 0 ? Math.min(value, MAX_VALUE_MS) : 0, data: bytes };
  }
}

function sameTokens(given: readonly number[], expected: Int32Array): boolean {
  return given.length === expected.length && given.every((id, i) => id === expected[i]);
}
