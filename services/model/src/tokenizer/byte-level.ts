/**
 * The byte-level alphabet of GPT-2 and its successors: every byte has a printable character. Printable Latin-1 stands
 * for itself, the rest follows from U+0100 on in byte order.
 */
const BYTE_OF_CHAR: ReadonlyMap<string, number> = makeAlphabet();

function makeAlphabet(): Map<string, number> {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  const alphabet = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    alphabet.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte);
  }
  return alphabet;
}

/** Bytes that a token stands for; a token with a character outside the alphabet stands for its own UTF-8. */
export function tokenToBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  let length = 0;
  for (const char of token) {
    const byte = BYTE_OF_CHAR.get(char);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes[length++] = byte;
  }
  return bytes.subarray(0, length);
}
