import type { Clock } from '@guildhall/common';
import type { CacheFault } from '../blob.ts';
import type { BlobStoreObserver } from './blob-store.ts';

type WriteFault = 'disk_full' | 'disk_read_only' | 'disk_error';

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** Time for which a full disk's last size is kept to, before more is tried. */
const CEILING_MS = 60_000;

/** What an error of a file operation means for the tier. */
export function diskFault(err: unknown): WriteFault {
  const { code = '' } = err as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') return 'disk_full';
  return code === 'EROFS' || code === 'EACCES' || code === 'EPERM' ? 'disk_read_only' : 'disk_error';
}

/**
 * Whether the disk takes writes: after a failed one it is left alone for a while, longer each time. A disk that others
 * fill up leaves the tier as many bytes as it had then; it lives within them until it is time to try for more.
 */
export class DiskHealth {
  readonly #clock: Clock;
  readonly #observer: BlobStoreObserver;
  readonly #faults = new Set<CacheFault>();
  #pauseMs = 0;
  #retryAtMs = 0;
  #ceilingBytes = Infinity;
  #ceilingUntilMs = 0;

  constructor(clock: Clock, observer: BlobStoreObserver) {
    this.#clock = clock;
    this.#observer = observer;
  }

  /** True unless a write failed a short while ago. */
  get writable(): boolean {
    return this.#clock.monotonicMs() >= this.#retryAtMs;
  }

  /** Bytes that the tier may have now. */
  get ceilingBytes(): number {
    if (this.#clock.monotonicMs() >= this.#ceilingUntilMs) this.#ceilingBytes = Infinity;
    return this.#ceilingBytes;
  }

  /** `usedBytes`: what the tier has on disk. */
  failed(err: unknown, what: string, usedBytes: number): void {
    const fault = diskFault(err);
    const nowMs = this.#clock.monotonicMs();
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs));
    this.#retryAtMs = nowMs + this.#pauseMs;
    if (fault === 'disk_full') {
      this.#ceilingBytes = usedBytes;
      this.#ceilingUntilMs = nowMs + CEILING_MS;
    }
    this.#faults.add(fault);
    this.#observer.fault(fault, `${what}: ${String(err)}; no writes for ${this.#pauseMs} ms`);
  }

  written(): void {
    this.#pauseMs = 0;
    // Room that was made by deleting does not mean that the disk is no longer full.
    const full = this.ceilingBytes !== Infinity;
    for (const fault of this.#faults) {
      if (fault === 'disk_full' && full) continue;
      this.#faults.delete(fault);
      this.#observer.recovered(fault);
    }
  }
}
