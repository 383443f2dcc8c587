import { GGML_TYPES, formatBytes, fromF16, type GgmlType } from '../gguf/quantize.ts';

/** A GGUF file as it was read back. */
export interface GgufFile {
  metadata: Map<string, unknown>;
  tensors: Map<string, { shape: number[]; type: GgmlType; data: Uint8Array }>;
}

const ALIGNMENT = 32;

/** Reads fields one after another. */
class Cursor {
  readonly view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  u64(): number {
    this.at += 8;
    return Number(this.view.getBigUint64(this.at - 8, true));
  }

  string(): string {
    const length = this.u64();
    this.at += length;
    const { buffer, byteOffset } = this.view;
    return new TextDecoder().decode(new Uint8Array(buffer, byteOffset + this.at - length, length));
  }

  value(type: number): unknown {
    switch (type) {
      case 4:
        return this.u32();
      case 5:
        return this.u32() | 0;
      case 6:
        this.at += 4;
        return this.view.getFloat32(this.at - 4, true);
      case 7:
        this.at += 1;
        return this.view.getUint8(this.at - 1) === 1;
      case 8:
        return this.string();
      case 9: {
        const item = this.u32();
        return Array.from({ length: this.u64() }, () => this.value(item));
      }
      default:
        throw new RangeError(`value type ${type}`);
    }
  }
}

/** Parses a whole GGUF file: what tests compare the writer with. @throws RangeError on one that it does not know. */
export function readGguf(bytes: Uint8Array): GgufFile {
  const cursor = new Cursor(bytes);
  if (cursor.u32() !== 0x46554747) throw new RangeError('not a GGUF file');
  if (cursor.u32() !== 3) throw new RangeError('not GGUF version 3');
  const numTensors = cursor.u64();
  const numValues = cursor.u64();
  const metadata = new Map<string, unknown>();
  for (let i = 0; i < numValues; i++) metadata.set(cursor.string(), cursor.value(cursor.u32()));
  const names = new Map(Object.entries(GGML_TYPES).map(([name, number]) => [number, name as GgmlType]));
  const entries = Array.from({ length: numTensors }, () => {
    const name = cursor.string();
    const shape = Array.from({ length: cursor.u32() }, () => cursor.u64()).reverse();
    const type = names.get(cursor.u32() as never);
    if (type === undefined) throw new RangeError(`${name}: unknown type`);
    return { name, shape, type, offset: cursor.u64() };
  });
  const start = Math.ceil(cursor.at / ALIGNMENT) * ALIGNMENT;
  const tensors: GgufFile['tensors'] = new Map();
  for (const { name, shape, type, offset } of entries) {
    if (offset % ALIGNMENT !== 0) throw new RangeError(`${name}: offset ${offset} is not aligned`);
    const length = formatBytes(
      type,
      shape.reduce((product, size) => product * size, 1),
    );
    tensors.set(name, { shape, type, data: bytes.subarray(start + offset, start + offset + length) });
  }
  return { metadata, tensors };
}

/** Numbers of encoded blocks, written from the format's definition and apart from the encoder. */
export function decode(type: GgmlType, data: Uint8Array): Float64Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const half = (at: number): number => fromF16(view.getUint16(at, true));
  switch (type) {
    case 'F32':
      return Float64Array.from({ length: data.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
    case 'BF16': {
      const word = new DataView(new ArrayBuffer(4));
      return Float64Array.from({ length: data.length / 2 }, (_, i) => {
        word.setUint32(0, view.getUint16(2 * i, true) << 16);
        return word.getFloat32(0);
      });
    }
    case 'Q8_0':
      return Float64Array.from({ length: (data.length / 34) * 32 }, (_, i) => {
        const block = Math.floor(i / 32) * 34;
        return half(block) * view.getInt8(block + 2 + (i % 32));
      });
    case 'Q4_0':
      return Float64Array.from({ length: (data.length / 18) * 32 }, (_, i) => {
        const block = Math.floor(i / 32) * 18;
        const byte = view.getUint8(block + 2 + (i % 16));
        return half(block) * ((i % 32 < 16 ? byte & 15 : byte >> 4) - 8);
      });
    case 'Q6_K':
      return Float64Array.from({ length: (data.length / 210) * 256 }, (_, i) => q6Value(view, half, i));
  }
}

function q6Value(view: DataView, half: (at: number) => number, i: number): number {
  const block = Math.floor(i / 256) * 210;
  const within = i % 256;
  const upper = Math.floor(within / 128);
  const quarter = Math.floor((within % 128) / 32);
  const lane = within % 32;
  const lowByte = view.getUint8(block + 64 * upper + 32 * (quarter % 2) + lane);
  const low = quarter < 2 ? lowByte & 15 : lowByte >> 4;
  const high = (view.getUint8(block + 128 + 32 * upper + lane) >> (2 * quarter)) & 3;
  const scale = view.getInt8(block + 192 + Math.floor(within / 16));
  return half(block + 208) * scale * ((low | (high << 4)) - 32);
}
