/** Bits of one element of each dtype that the safetensors format defines. */
const DTYPE_BITS: Record<string, number> = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E4M3: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2: 8,
  F8_E5M2FNUZ: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** Bits of one element, or null for a dtype that the format does not know. */
export function dtypeBits(dtype: string): number | null {
  return Object.hasOwn(DTYPE_BITS, dtype) ? (DTYPE_BITS[dtype] ?? null) : null;
}

/**
 * Bytes of a dense tensor.
 * @returns null if the dtype is unknown, the size is no whole number of bytes, or it is beyond exact integers.
 */
export function tensorBytes(dtype: string, shape: readonly number[]): number | null {
  const bits = dtypeBits(dtype);
  if (bits === null) return null;
  let total = BigInt(bits);
  for (const size of shape) total *= BigInt(size);
  if (total % 8n !== 0n || total / 8n > BigInt(Number.MAX_SAFE_INTEGER)) return null;
  return Number(total / 8n);
}
