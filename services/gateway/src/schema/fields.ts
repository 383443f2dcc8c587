import { z } from 'zod';
import type { ErrorCode } from '@guildhall/common';

/** `params` of a zod issue that carries an error code of its own. */
export interface IssueParams {
  code: ErrorCode;
}

/** A field that may be absent or null; both mean the default. */
export function optional<T extends z.ZodType>(schema: T, description: string): z.ZodOptional<z.ZodNullable<T>> {
  return schema.nullish().describe(description);
}

/** A documented field that has no effect here and does no harm. */
export function ignored(why: string): z.ZodOptional<z.ZodUnknown> {
  return z.unknown().optional().describe(`Accepted and ignored: ${why}`);
}

/** What a refused field may still say, and what to use in its place. */
export interface RefusedOptions {
  /** Values that ask for nothing. */
  harmless?: (value: unknown) => boolean;
  instead?: string;
}

/**
 * A documented field whose effect does not exist here: null, and values that ask for nothing, are accepted; anything
 * else is refused with `unsupported`.
 * @param what the effect, as the subject of "is not supported".
 */
export function refused(what: string, options: RefusedOptions = {}): z.ZodOptional<z.ZodUnknown> {
  const { harmless, instead } = options;
  const text = `${what} is not supported by this server${instead === undefined ? '' : `; ${instead}`}`;
  return z
    .unknown()
    .superRefine((value, ctx) => {
      if (value === null || value === undefined || harmless?.(value) === true) return;
      addIssue(ctx, 'unsupported', text);
    })
    .optional()
    .describe(`Refused unless it asks for nothing: ${text}.`);
}

/** Adds an issue with a code of the error registry, at `path` below the refined value. */
export function addIssue(ctx: z.RefinementCtx, code: ErrorCode, message: string, path: PropertyKey[] = []): void {
  const params: IssueParams = { code };
  ctx.addIssue({ code: 'custom', message, path, params: { ...params } });
}

/** True for `[]`. */
export function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

/** Registers a schema under a name, so that the OpenAPI document refers to it. */
export function named<T extends z.ZodType>(id: string, schema: T): T {
  z.globalRegistry.add(schema, { ...z.globalRegistry.get(schema), id });
  return schema;
}
