import { createHash, randomInt } from 'node:crypto';
import { z } from 'zod';

const limit = z.int().min(1).max(1_000_000_000).nullable().default(null);

/** What a subject may use; null for no limit. */
export interface Quota {
  requestsPerMinute: number | null;
  tokensPerMinute: number | null;
  /** Requests that run at a time. */
  concurrency: number | null;
}

/** Names of tenants. */
export const TENANT_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** Names of labels, how many a key may have, and the longest value. */
export const LABEL_NAME = /^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$/;
export const MAX_LABELS = 16;
export const MAX_LABEL_VALUE = 256;

/** What is known of an API key beside its hash. Fields that a later release adds are passed over. */
export const keyRecordSchema = z.object({
  id: z.string(),
  name: z.string().default(''),
  /** What its owners note about it; nothing here reads them. */
  labels: z.record(z.string(), z.string()).default({}),
  /** Whose key it is. */
  tenant: z.string().regex(TENANT_NAME),
  /** Wall-clock times, milliseconds since the Unix epoch. */
  createdAtMs: z.number(),
  expiresAtMs: z.number().nullable().default(null),
  revokedAtMs: z.number().nullable().default(null),
  /** Names of models that it may ask for; null for all. */
  models: z.array(z.string()).nullable().default(null),
  /** Of requests that ask for none; smaller is more urgent, as in the API. */
  priority: z.int().min(-100).max(100).default(0),
  /** The most urgent one that its requests may ask for; null where they may ask for none. */
  priorityCap: z.int().min(-100).max(100).nullable().default(null),
  requestsPerMinute: limit,
  tokensPerMinute: limit,
  concurrency: limit,
});

export type KeyRecord = z.output<typeof keyRecordSchema>;

/** The record in a stored text; null for what is none. */
export function parseKeyRecord(text: string): KeyRecord | null {
  try {
    return keyRecordSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const ID_LETTERS = '0123456789abcdefghijklmnopqrstuvwxyz';
const ID_LENGTH = 12;
/** 43 letters out of 62 are 256 bits. */
const SECRET_LENGTH = 43;
const API_KEY = /^gh_([0-9a-z]{12})_[0-9A-Za-z]{43}$/;

function randomText(letters: string, length: number): string {
  return Array.from({ length }, () => letters[randomInt(letters.length)]).join('');
}

/** A new API key and the id that is part of it. */
export function newApiKey(): { id: string; key: string } {
  const id = randomText(ID_LETTERS, ID_LENGTH);
  return { id, key: `gh_${id}_${randomText(LETTERS, SECRET_LENGTH)}` };
}

/** Id of a text that has the form of an API key, else null. */
export function apiKeyId(text: string): string | null {
  return API_KEY.exec(text)?.[1] ?? null;
}

/** SHA-256 of an API key. Keys are random, so that nothing slower would protect them better. */
export function apiKeyHash(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
