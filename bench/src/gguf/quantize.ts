/**
 * The GGUF weight formats that the peer runs. Each function turns rows of numbers into the format's blocks, in the
 * layout that ggml defines; all arithmetic is rounded to single precision as ggml's is.
 */

/** Formats of GGUF tensors, with their ggml type numbers. */
export const GGML_TYPES = { F32: 0, Q4_0: 2, Q8_0: 8, Q6_K: 14, BF16: 30 } as const;
export type GgmlType = keyof typeof GGML_TYPES;

/** Values and bytes of one block. */
export const BLOCKS: Record<GgmlType, { values: number; bytes: number }> = {
  F32: { values: 1, bytes: 4 },
  BF16: { values: 1, bytes: 2 },
  Q8_0: { values: 32, bytes: 34 },
  Q4_0: { values: 32, bytes: 18 },
  Q6_K: { values: 256, bytes: 210 },
};

/** Bytes of `count` values, which must be whole blocks. */
export function formatBytes(type: GgmlType, count: number): number {
  const { values, bytes } = BLOCKS[type];
  if (count % values !== 0) throw new RangeError(`${count} values are no whole ${type} blocks of ${values}`);
  return (count / values) * bytes;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Half precision nearest to a number, ties to even, as its 16 bits; infinity past the range. */
export function toF16(value: number): number {
  float[0] = value;
  const word = bits[0] as number;
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude >= 0x47800000) return magnitude > 0x7f800000 ? sign | 0x7e00 : sign | 0x7c00;
  // Below the smallest normal half the value is a multiple of 2^-24, which adding 0.5 leaves in the low bits.
  if (magnitude < 0x38800000) {
    bits[0] = magnitude;
    float[0] = (float[0] as number) + 0.5;
    return sign | ((bits[0] as number) - 0x3f000000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000;
  return sign | (rounded >>> 13);
}

/** Value of a half. */
export function fromF16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** Q8_0: 32 values as a half-precision scale and 32 signed bytes. */
export function quantizeQ8(values: Float32Array, out: Uint8Array): void {
  for (let block = 0, at = 0; block < values.length; block += 32, at += 34) {
    let largest = 0;
    for (let i = block; i < block + 32; i++) {
      const size = Math.abs(values[i] as number);
      if (size > largest) largest = size;
    }
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    writeHalf(out, at, scale);
    for (let i = 0; i < 32; i++) {
      const scaled = Math.fround((values[block + i] as number) * inverse);
      // Half away from zero, as C's roundf.
      out[at + 2 + i] = scaled < 0 ? -Math.floor(0.5 - scaled) : Math.floor(scaled + 0.5);
    }
  }
}

/** Q4_0: 32 values as a half-precision scale and 32 nibbles around 8; value i and i + 16 share a byte. */
export function quantizeQ4(values: Float32Array, out: Uint8Array): void {
  for (let block = 0, at = 0; block < values.length; block += 32, at += 18) {
    const scale = Math.fround(extreme(values, block, 32) / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    writeHalf(out, at, scale);
    for (let i = 0; i < 16; i++) {
      const low = nibble(Math.fround((values[block + i] as number) * inverse));
      const high = nibble(Math.fround((values[block + 16 + i] as number) * inverse));
      out[at + 2 + i] = low | (high << 4);
    }
  }
}

function nibble(scaled: number): number {
  const code = Math.trunc(scaled + 8.5);
  return code > 15 ? 15 : code < 0 ? 0 : code;
}

/** The value of largest magnitude, with its sign. */
function extreme(values: Float32Array, from: number, count: number): number {
  let found = 0;
  let largest = 0;
  for (let i = from; i < from + count; i++) {
    const value = values[i] as number;
    const size = value < 0 ? -value : value;
    if (size > largest) {
      largest = size;
      found = value;
    }
  }
  return found;
}

function writeHalf(out: Uint8Array, at: number, value: number): void {
  const half = toF16(value);
  out[at] = half & 0xff;
  out[at + 1] = half >>> 8;
}

const scales = new Float64Array(16);
const codes = new Uint8Array(256);

/**
 * Q6_K: 256 values as 16 groups with signed byte scales under one half-precision scale, 6 bits a value around 32. Scales
 * are taken from each group's extreme; ggml searches for slightly better ones, which changes no speed.
 */
export function quantizeQ6(values: Float32Array, out: Uint8Array): void {
  for (let block = 0, at = 0; block < values.length; block += 256, at += 210) {
    let largest = 0;
    for (let g = 0; g < 16; g++) {
      scales[g] = extreme(values, block + 16 * g, 16) / -32;
      if (Math.abs(scales[g] as number) > Math.abs(largest)) largest = scales[g] as number;
    }
    const unit = largest / -128;
    writeHalf(out, at + 208, unit);
    const exact = fromF16(toF16(unit));
    for (let g = 0; g < 16; g++) {
      const scale = exact === 0 ? 0 : Math.max(-128, Math.min(127, Math.round((scales[g] as number) / exact)));
      out[at + 192 + g] = scale;
      const step = exact * scale;
      for (let i = 0; i < 16; i++) {
        const code = step === 0 ? 0 : Math.round((values[block + 16 * g + i] as number) / step);
        codes[16 * g + i] = Math.max(-32, Math.min(31, code)) + 32;
      }
    }
    packQ6(out, at);
  }
}

/** Low nibbles of values l and l + 64 share a byte; so do the upper two bits of l, l + 32, l + 64 and l + 96. */
function packQ6(out: Uint8Array, at: number): void {
  for (let half = 0; half < 2; half++) {
    const from = 128 * half;
    for (let l = 0; l < 32; l++) {
      const [a, b, c, d] = [codes[from + l], codes[from + l + 32], codes[from + l + 64], codes[from + l + 96]] as [
        number,
        number,
        number,
        number,
      ];
      out[at + 64 * half + l] = (a & 15) | ((c & 15) << 4);
      out[at + 64 * half + l + 32] = (b & 15) | ((d & 15) << 4);
      out[at + 128 + 32 * half + l] = (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((d >> 4) << 6);
    }
  }
}

/** Encodes values in a format. BF16 keeps the upper half of each number, which must hold all of it. */
export function encode(type: GgmlType, values: Float32Array): Uint8Array {
  const out = new Uint8Array(formatBytes(type, values.length));
  switch (type) {
    case 'F32':
      out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      break;
    case 'BF16': {
      const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
      const halves = new Uint16Array(out.buffer);
      for (let i = 0; i < words.length; i++) halves[i] = (words[i] as number) >>> 16;
      break;
    }
    case 'Q8_0':
      quantizeQ8(values, out);
      break;
    case 'Q4_0':
      quantizeQ4(values, out);
      break;
    case 'Q6_K':
      quantizeQ6(values, out);
      break;
  }
  return out;
}
