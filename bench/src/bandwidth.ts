import { loadNative, type NativeBinding, type ProbeKind } from '@guildhall/native';

/** Far more than any cache. */
const READ_BYTES = 2 ** 30;
const READ_MILLISECONDS = 120;
const PEAK_MILLISECONDS = 250;

/** The machine's ceilings, measured where they are needed: bandwidth drifts by tens of percent within seconds. */
export class Bandwidth {
  readonly #native: NativeBinding = loadNative();
  #data: Uint8Array | null = null;

  /** Read bandwidth of `threads` threads right now, in GB/s (10^9). */
  read(threads: number): number {
    this.#data ??= new Uint8Array(this.#native.probeMemory(READ_BYTES));
    return this.#native.probe('read', threads, READ_MILLISECONDS, this.#data) / 1e9;
  }

  /** Arithmetic peak in GFLOP/s (GOP/s for `vnni`); null where the CPU lacks the instructions. */
  peak(kind: Exclude<ProbeKind, 'read'>, threads: number): number | null {
    try {
      return this.#native.probe(kind, threads, PEAK_MILLISECONDS, null) / 1e9;
    } catch {
      return null;
    }
  }
}
