import { isIPv6 } from 'node:net';
import type { Clock } from '@guildhall/common';

/** Wrong keys that an address may send at once, and how many more each second. */
export const BURST = 30;
const PER_SECOND = 1;
/** Addresses that are remembered; one that is forgotten begins anew. */
const MAX_ADDRESSES = 10_000;

interface Bucket {
  left: number;
  atMs: number;
}

/** Counts wrong keys by the address that they come from. Right keys never count. */
export class FailedAttempts {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Takes one attempt of an address; false when it has none left. */
  take(address: string): boolean {
    const name = networkOf(address);
    const bucket = this.#bucket(name);
    if (bucket.left < 1) return false;
    bucket.left -= 1;
    this.#buckets.delete(name);
    this.#buckets.set(name, bucket);
    const oldest = this.#buckets.keys().next();
    if (this.#buckets.size > MAX_ADDRESSES && oldest.done !== true) this.#buckets.delete(oldest.value);
    return true;
  }

  /** Gives one back: the key was right. */
  giveBack(address: string): void {
    const name = networkOf(address);
    const bucket = this.#bucket(name);
    bucket.left = Math.min(BURST, bucket.left + 1);
    if (bucket.left >= BURST) this.#buckets.delete(name);
  }

  /** Seconds until an address has an attempt again. */
  waitS(address: string): number {
    return Math.max(1, Math.ceil((1 - this.#bucket(networkOf(address)).left) / PER_SECOND));
  }

  #bucket(name: string): Bucket {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#buckets.get(name);
    if (known === undefined) return { left: BURST, atMs: nowMs };
    known.left = Math.min(BURST, known.left + ((nowMs - known.atMs) / 1000) * PER_SECOND);
    known.atMs = nowMs;
    return known;
  }
}

/** Who has one address of IPv6 has 2^64 of them: they count as one. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('%')[0]?.split('::') ?? [];
  const groups = head === '' ? [] : head.split(':');
  const behind = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - groups.length - behind.length;
  const all = [...groups, ...Array.from({ length: Math.max(0, zeros) }, () => '0'), ...behind];
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
