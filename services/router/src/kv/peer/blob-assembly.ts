import type { pages } from '@guildhall/proto';
import type { BlobKind } from '../blob.ts';
import { PART_BYTES, pullFault, toWireKind } from './wire.ts';

/** CRC-32C of each part. */
export type Checksum = (parts: readonly Uint8Array[]) => Promise<Uint32Array>;

/** What the next blob must be. */
export interface ExpectedBlob {
  kind: BlobKind;
  /** Bytes; no others are accepted, so that nobody can have memory allocated here. */
  size: number;
}

/** One blob on its way: a head, then its bytes in order. */
export class BlobAssembly {
  readonly head: pages.BlobHead;
  readonly #data: Uint8Array;
  #filled = 0;

  /** Errors: `corrupt` unless the head is of the kind and size that is expected. */
  constructor(head: pages.BlobHead, expected: ExpectedBlob) {
    if (head.kind !== toWireKind(expected.kind)) {
      throw pullFault('corrupt', `a blob of kind ${head.kind} came instead of a ${expected.kind}`);
    }
    if (head.size !== BigInt(expected.size)) {
      throw pullFault('corrupt', `a ${expected.kind} of ${head.size} bytes came, it must have ${expected.size}`);
    }
    this.head = head;
    // Memory of its own: the store keeps it.
    this.#data = new Uint8Array(Buffer.allocUnsafeSlow(expected.size).buffer);
  }

  get complete(): boolean {
    return this.#filled === this.#data.length;
  }

  /** Errors: `corrupt` for more bytes than the head promised, or an empty or oversized part. */
  add(part: Uint8Array): void {
    if (part.length === 0 || part.length > PART_BYTES || part.length > this.#data.length - this.#filled) {
      throw pullFault('corrupt', `${part.length} bytes came where ${this.#data.length - this.#filled} were missing`);
    }
    this.#data.set(part, this.#filled);
    this.#filled += part.length;
  }

  /** The bytes, once complete. Errors: `checksum`. */
  async finish(checksum: Checksum): Promise<Uint8Array> {
    const [found] = await checksum([this.#data]);
    if (found === undefined || found !== this.head.checksum) {
      throw pullFault('checksum', `CRC-32C is ${hex(found ?? 0)}, the head says ${hex(this.head.checksum)}`);
    }
    return this.#data;
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
