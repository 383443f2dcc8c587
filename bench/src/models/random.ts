/**
 * Random numbers for checkpoints: fast enough for billions, and the same on every machine. A value is a table entry at
 * 16 random bits; the table holds the quantiles of the normal distribution.
 */

const ENTRIES = 65536;

/** Four words of state of the generator sfc32, mixed from a text so that each tensor has a stream of its own. */
export function seedOf(text: string): Uint32Array {
  const state = Uint32Array.of(0x9e3779b9, 0x243f6a88, 0xb7e15162, 1);
  for (let i = 0; i < text.length; i++) {
    const word = i % 3;
    state[word] = Math.imul((state[word] as number) ^ text.charCodeAt(i), 0x01000193);
  }
  discard(state, 16);
  return state;
}

function discard(state: Uint32Array, count: number): void {
  fillWords(state, new Uint32Array(count));
}

/** Fills `out` with random words and advances the state (sfc32, public domain, by Chris Doty-Humphrey). */
export function fillWords(state: Uint32Array, out: Uint32Array): void {
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;
  for (let i = 0; i < out.length; i++) {
    const sum = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    out[i] = sum;
  }
  state[0] = a;
  state[1] = b;
  state[2] = c;
  state[3] = d;
}

/**
 * Quantile of the standard normal distribution for 0 < p < 1: Acklam's rational approximation, relative error 1.2e-9.
 */
export function normalQuantile(p: number): number {
  const low = 0.02425;
  if (p > 0.5) return -normalQuantile(1 - p);
  if (p < low) {
    const q = Math.sqrt(-2 * Math.log(p));
    const top = ((((-7.784894002430293e-3 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734) * q + 4.374664141464968) * q + 2.938163982698783;
    return top / ((((7.784695709041462e-3 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1);
  }
  const q = p - 0.5;
  const r = q * q;
  const top = ((((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.357751867269) * r - 30.66479806614716) * r + 2.506628277459239;
  const bottom = ((((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972) * r - 13.28068155288572) * r + 1;
  return (top * q) / bottom;
}

let standard: Float64Array | null = null;

function standardQuantiles(): Float64Array {
  standard ??= Float64Array.from({ length: ENTRIES }, (_, i) => normalQuantile((i + 0.5) / ENTRIES));
  return standard;
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** The BF16 nearest to a finite number, ties to even, as its 16 bits. */
export function toBf16(value: number): number {
  float[0] = value;
  const bits = word[0] as number;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** [65536] BF16 quantiles of the normal distribution with this mean and deviation. */
export function bf16Table(mean: number, deviation: number): Uint16Array {
  return Uint16Array.from(standardQuantiles(), (z) => toBf16(mean + deviation * z));
}

/** Replaces each random word by two BF16 values. */
export function wordsToBf16(words: Uint32Array, table: Uint16Array): void {
  for (let i = 0; i < words.length; i++) {
    const bits = words[i] as number;
    words[i] = (table[bits & 0xffff] as number) | ((table[bits >>> 16] as number) << 16);
  }
}

/** F32 values for the low 16 bits of each word. */
export function wordsToF32(words: Uint32Array, mean: number, deviation: number): Float32Array {
  const table = standardQuantiles();
  return Float32Array.from(words, (bits) => mean + deviation * (table[bits & 0xffff] as number));
}
