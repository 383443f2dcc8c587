import { createHash } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { fail } from '@guildhall/common';

const PREFIX = 'gh1.';
/** Longest text that is unpacked. */
const MAX_BYTES = 8 << 20;

/**
 * Thinking in a form that clients hand back unread: `encrypted_content` of Responses, and the signature of a thinking
 * block whose text is left out. It is packed, not encrypted: it keeps nothing from the caller, who may read the thinking
 * anyway.
 */
export function sealText(text: string): string {
  return PREFIX + deflateRawSync(text).toString('base64url');
}

/** What `sealText` packed. Throws `invalid_value` naming `field` for anything else. */
export function unsealText(sealed: string, field: string): string {
  try {
    if (!sealed.startsWith(PREFIX)) throw new SyntaxError('another prefix');
    const packed = Buffer.from(sealed.slice(PREFIX.length), 'base64url');
    return new TextDecoder('utf-8', { fatal: true }).decode(inflateRawSync(packed, { maxOutputLength: MAX_BYTES }));
  } catch (err) {
    throw fail('invalid_value', `${field}: this was not given by this server; send it unchanged or leave it out`, {
      field,
      cause: err,
    });
  }
}

export function isSealed(text: string): boolean {
  return text.startsWith(PREFIX);
}

/** A short word that belongs to a text, where a client expects a signature of it. */
export function textDigest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
