import { fail } from '@guildhall/common';

/** Sections of a WebAssembly module that are changed here. */
const MEMORY = 5;
const GLOBAL = 6;
const DATA = 11;
const HEADER_BYTES = 8;
const PAGE = 65_536;
const I32 = 0x7f;
const I32_CONST = 0x41;

export interface WasmLimits {
  /** Bytes for the stack that C++ keeps in linear memory. */
  stackBytes: number;
  /** Bytes that linear memory may grow to. */
  memoryBytes: number;
}

/** Unsigned LEB128 at `at`: the number, and where it ends. */
function readUnsigned(bytes: Uint8Array, at: number): [value: number, end: number] {
  let [value, scale] = [0, 1];
  for (let i = at; i < bytes.length && i < at + 5; i++) {
    const byte = bytes[i] as number;
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte < 0x80) return [value, i + 1];
  }
  throw unknownModule('a number has no end');
}

function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(Math.floor(value / 128))];
}

/** Signed LEB128 of a number that is not negative. */
function signed(value: number): number[] {
  return value < 64 ? [value] : [(value & 0x7f) | 0x80, ...signed(Math.floor(value / 128))];
}

function unknownModule(why: string): Error {
  return fail('internal', `the grammar engine's module is not the one that this was written for: ${why}`);
}

/**
 * A copy of the grammar engine's module with a larger stack and a bound on its memory. As published it has 64 KiB of
 * stack, right above its static data: a deep grammar would write over that data and go on. With more stack than the
 * thread's own, deep recursion ends in an error of the thread instead. The heap moves up to make room: its beginning is a
 * number that stands in the module twice, as the first value of the stack pointer and in the static data.
 */
export function withLimits(module: Uint8Array, { stackBytes, memoryBytes }: WasmLimits): Uint8Array<ArrayBuffer> {
  const sections: { id: number; body: Uint8Array }[] = [];
  for (let at = HEADER_BYTES; at < module.length;) {
    const [size, begin] = readUnsigned(module, at + 1);
    sections.push({ id: module[at] as number, body: module.subarray(begin, begin + size) });
    at = begin + size;
  }
  const top = stackTop(sections.find(({ id }) => id === GLOBAL)?.body);
  const moved = top + Math.ceil(stackBytes / PAGE) * PAGE;
  const parts: Uint8Array[] = [module.subarray(0, HEADER_BYTES)];
  for (const { id, body } of sections) {
    const changed =
      id === MEMORY
        ? boundedMemory(body, moved, memoryBytes)
        : id === GLOBAL
          ? replaced(body, [I32_CONST, ...signed(top)], [I32_CONST, ...signed(moved)])
          : id === DATA
            ? replaced(body, littleEndian(top), littleEndian(moved))
            : body;
    parts.push(Uint8Array.from([id, ...unsigned(changed.length)]), changed);
  }
  return Uint8Array.from(Buffer.concat(parts));
}

/** First value of the stack pointer: the first global, a variable i32. */
function stackTop(body: Uint8Array | undefined): number {
  if (body === undefined || body[1] !== I32 || body[2] !== 1 || body[3] !== I32_CONST) {
    throw unknownModule('its first global is no stack pointer');
  }
  const [top] = readUnsigned(body, 4);
  return top;
}

function littleEndian(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

/** Replaces the one place where `from` stands. */
function replaced(body: Uint8Array, from: readonly number[], to: readonly number[]): Uint8Array {
  const buffer = Buffer.from(body);
  const at = buffer.indexOf(Buffer.from(from));
  if (at < 0 || buffer.includes(Buffer.from(from), at + 1))
    throw unknownModule('the heap begins in no or several places');
  return Buffer.concat([buffer.subarray(0, at), Buffer.from(to), buffer.subarray(at + from.length)]);
}

/** One memory that grows up to `memoryBytes`; it begins with room for the heap that it had. */
function boundedMemory(body: Uint8Array, heapBegin: number, memoryBytes: number): Uint8Array {
  const [count, flags] = [body[0], body[1]];
  if (count !== 1 || flags !== 1) throw unknownModule('it has no memory that grows');
  const [pages] = readUnsigned(body, 2);
  const least = pages + Math.ceil(heapBegin / PAGE);
  const most = Math.max(least, Math.floor(memoryBytes / PAGE));
  return Uint8Array.from([1, 1, ...unsigned(least), ...unsigned(most)]);
}
