import { isIP } from 'node:net';
import { z } from 'zod';
import { fail, type HttpError, isErrorCode } from '@guildhall/common';

/** Version of the messages between join server and joining machines. */
export const JOIN_PROTOCOL = 1;
/** Largest request or answer, in bytes. */
export const MESSAGE_LIMIT_BYTES = 16 << 10;

const memberId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/);
const address = z
  .string()
  .max(253)
  .refine((text) => isIP(text) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9-]*\.?)*$/.test(text), 'expected an address or a name');
const certificateFields = {
  protocol: z.int(),
  version: z.string().max(64),
  addresses: z.array(address).min(1).max(8),
  csr: z.string().max(4096),
};

/** `POST /v1/join`, by a machine that has a token. */
export const joinRequest = z.strictObject({
  ...certificateFields,
  token: z.strictObject({ id: z.string().max(64), secret: z.string().max(64) }),
  id: memberId.nullable(),
});
export type JoinRequest = z.output<typeof joinRequest>;

/** `POST /v1/renew`, by a member that shows its certificate. */
export const renewRequest = z.strictObject({ ...certificateFields });
export type RenewRequest = z.output<typeof renewRequest>;

/** What every process of the cluster must agree on. */
export const clusterSettings = z.object({
  name: z.string(),
  clusterToken: z.string(),
  redis: z.object({ host: z.string(), port: z.int() }),
  weights: z.string(),
  kvDtype: z.string(),
  bf16Kernels: z.string(),
  combine: z.string(),
  modelFingerprint: z.string(),
  modelName: z.string(),
});
export type ClusterSettings = z.output<typeof clusterSettings>;

/** Answer to both requests; the password is in that to a join only. */
export const admission = z.object({
  id: memberId,
  /** PEM of the certificate, and after it of the authority. */
  certificate: z.string(),
  expiresAtMs: z.number(),
  redisPassword: z.string().nullable(),
  cluster: clusterSettings,
});
export type Admission = z.output<typeof admission>;

/** `GET /v1/about`, for everybody: nothing in it is secret. */
export const about = z.object({
  protocol: z.int(),
  version: z.string(),
  cluster: z.string(),
  nowMs: z.number(),
});
export type About = z.output<typeof about>;

/** Reads a message. Throws `invalid_json` and `invalid_value`, the latter with the field. */
export function readMessage<T>(schema: z.ZodType<T>, text: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (err) {
    throw fail('invalid_json', 'the message is not valid JSON', { cause: err });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = issue?.path.join('.') ?? '';
  throw fail('invalid_value', `${field === '' ? 'the message' : field}: ${issue?.message ?? 'not as expected'}`, {
    field: field === '' ? null : field,
  });
}

/** The error in an answer that is not 200. */
export function readError(status: number, text: string): Error {
  try {
    const { error } = JSON.parse(text) as Partial<HttpError['body']>;
    if (error !== undefined && isErrorCode(error.code)) return fail(error.code, error.message, { field: error.param });
  } catch {
    // Not from us: said below.
  }
  return fail('peer_unavailable', `unexpected answer ${status}: no join server of Guildhall listens there`);
}
