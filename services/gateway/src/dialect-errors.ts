import { fail, type GuildhallError, isGuildhallError } from '@guildhall/common';
import type { z } from 'zod';
import { type ChatRequest, chatRequest } from './schema/chat.ts';
import { validationError } from './validation.ts';

/** How fields of the chat body are called in another dialect: what a name begins with, and what stands there instead. */
export type FieldNames = readonly (readonly [chat: RegExp, own: string])[];

/** An error about a field of the chat body as one about the field that it was made from. */
export function renamed(err: unknown, names: FieldNames): unknown {
  if (!isGuildhallError(err) || err.field === null) return err;
  const { code, field, message, details } = err;
  const rename = (text: string): string => {
    for (const [chat, own] of names) if (chat.test(text)) return text.replace(chat, own);
    return text;
  };
  const own = rename(field);
  if (own === field) return err;
  return fail(code, message.replaceAll(field, own), { field: own, details, cause: err });
}

/** Runs `task`; its errors name fields of another dialect. */
export async function withNames<T>(names: FieldNames, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (err) {
    throw renamed(err, names);
  }
}

/** A body that was made from another dialect's, checked as one of chat. Throws the first thing that is wrong with it. */
export function checkedChat(body: z.input<typeof chatRequest>, names: FieldNames): ChatRequest {
  const result = chatRequest.safeParse(body);
  if (result.success) return result.data;
  const error: GuildhallError = validationError(result.error, body);
  throw renamed(error, names);
}

/** Leaves out what is null or undefined. */
export function present<T extends Record<string, unknown>>(fields: T): { [K in keyof T]: NonNullable<T[K]> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: NonNullable<T[K]> };
}
