import { Metadata, type ServiceError } from '@grpc/grpc-js';

/** One entry of the registry: how an error code looks to HTTP, to gRPC and to a reader of docs/errors.md. */
export interface ErrorInfo {
  /** HTTP status of the gateway's answer. */
  http: number;
  /** gRPC status number. */
  grpc: number;
  /** `type` of the OpenAI error object. */
  type: string;
  /** What happened, one sentence. */
  summary: string;
  /** What the person who sees it can do. */
  hint: string;
}

const INVALID = { http: 400, grpc: 3, type: 'invalid_request_error' } as const;
const SERVER = { http: 500, grpc: 13, type: 'server_error' } as const;
const UNAVAILABLE = { http: 503, grpc: 14, type: 'server_error' } as const;
const MISMATCH = { http: 503, grpc: 9, type: 'server_error' } as const;

/**
 * The closed registry of error codes. Every error that leaves a service carries one of these codes; nothing else
 * decides about HTTP or gRPC statuses.
 */
export const ERRORS = {
  invalid_json: {
    ...INVALID,
    summary: 'The request body is not valid JSON.',
    hint: 'Send a JSON object with Content-Type: application/json.',
  },
  invalid_type: {
    ...INVALID,
    summary: 'A field has the wrong type.',
    hint: 'Send the type that /openapi.json gives for the field named in `param`.',
  },
  invalid_value: {
    ...INVALID,
    summary: 'A field has a value outside what is allowed.',
    hint: 'The message names the field and the allowed range.',
  },
  missing_field: {
    ...INVALID,
    summary: 'A required field is missing.',
    hint: 'Add the field named in `param`.',
  },
  unknown_field: {
    ...INVALID,
    summary: 'A field is not known.',
    hint: 'Remove it, or check its spelling against /openapi.json.',
  },
  model_not_found: {
    http: 404,
    grpc: 5,
    type: 'invalid_request_error',
    summary: 'No model is served under that name.',
    hint: 'GET /v1/models lists the served names.',
  },
  context_length_exceeded: {
    ...INVALID,
    summary: 'The prompt and the tokens to generate do not fit in the context.',
    hint: 'Shorten the prompt or lower max_tokens, or start the router with a larger --max-context.',
  },
  body_too_large: {
    http: 413,
    grpc: 8,
    type: 'invalid_request_error',
    summary: 'The request body or message is larger than allowed.',
    hint: 'Send less, or raise the limit in the configuration of the service.',
  },
  unsupported_media_type: {
    http: 415,
    grpc: 3,
    type: 'invalid_request_error',
    summary: 'The body is of a type, a charset or a compression that the route does not take.',
    hint: 'Send what the message asks for: JSON in UTF-8, or for a file a form, uncompressed.',
  },
  unauthorized: {
    http: 401,
    grpc: 16,
    type: 'authentication_error',
    summary: 'The request carries no valid credentials.',
    hint: 'Send `Authorization: Bearer <key>`; between services, give both the same --cluster-token.',
  },
  forbidden: {
    http: 403,
    grpc: 7,
    type: 'permission_error',
    summary: 'The credentials do not allow this.',
    hint: 'Use a key that has the permission.',
  },
  not_found: {
    http: 404,
    grpc: 5,
    type: 'not_found_error',
    summary: 'There is nothing under this address.',
    hint: 'GET /openapi.json lists the routes.',
  },
  previous_response_not_found: {
    http: 400,
    grpc: 5,
    type: 'invalid_request_error',
    summary: 'The response to go on from is not there.',
    hint: 'It was removed, not kept, or kept for another key. Send the conversation as input.',
  },
  method_not_allowed: {
    http: 405,
    grpc: 12,
    type: 'invalid_request_error',
    summary: 'The route exists but not with this HTTP method.',
    hint: 'The Allow header lists the methods.',
  },
  rate_limited: {
    http: 429,
    grpc: 8,
    type: 'rate_limit_error',
    summary: 'The key has used up its rate.',
    hint: 'Wait as long as Retry-After says.',
  },
  queue_full: {
    http: 503,
    grpc: 8,
    type: 'server_error',
    summary: 'The waiting queue is full.',
    hint: 'Try again later, add a router, or raise the queue limit.',
  },
  overloaded: {
    http: 503,
    grpc: 8,
    type: 'server_error',
    summary: 'The service has more work than it can take.',
    hint: 'Try again later or add capacity.',
  },
  not_ready: {
    ...UNAVAILABLE,
    summary: 'The service is starting or waits for something it needs.',
    hint: '/ready says what is missing.',
  },
  no_router: {
    ...UNAVAILABLE,
    summary: 'No router that serves the model is alive.',
    hint: 'Start a router, or look with `guildhall status` why none is ready.',
  },
  router_lost: {
    ...UNAVAILABLE,
    summary: 'The router died and no other could take the stream over.',
    hint: 'Send the request again; run two routers to have streams resumed.',
  },
  expert_unavailable: {
    ...UNAVAILABLE,
    summary: 'No live worker holds an expert that the tokens need.',
    hint: 'Start a worker with enough memory; `guildhall status` shows the coverage.',
  },
  computation_failed: {
    ...SERVER,
    summary: 'Computing this request failed, in two processes; others are not affected.',
    hint: 'The message says what failed. Sent again it will be refused: report it with the request id.',
  },
  request_quarantined: {
    http: 422,
    grpc: 9,
    type: 'invalid_request_error',
    summary: 'A request like this one broke the processes that computed it; it is refused for a while.',
    hint: 'Change the request. `guildhall events` says when and where it failed.',
  },
  peer_unavailable: {
    ...UNAVAILABLE,
    summary: 'Another process of the cluster cannot be reached.',
    hint: 'Check that it runs and that its advertised address can be reached from here.',
  },
  deadline_exceeded: {
    http: 504,
    grpc: 4,
    type: 'server_error',
    summary: 'The request did not finish before its deadline.',
    hint: 'Allow more time, ask for fewer tokens or add capacity.',
  },
  cancelled: {
    http: 499,
    grpc: 1,
    type: 'invalid_request_error',
    summary: 'The client cancelled the request.',
    hint: 'Nothing to do: everything it held was freed.',
  },
  numerics_mismatch: {
    ...MISMATCH,
    summary: 'Two processes compute in different numerics classes.',
    hint: 'Start them with the same --weights, --kv-dtype, kernels and combine mode.',
  },
  fingerprint_mismatch: {
    ...MISMATCH,
    summary: 'Two processes have different checkpoints.',
    hint: 'Start them with the same --model files.',
  },
  protocol_mismatch: {
    ...MISMATCH,
    summary: 'Two processes share no protocol version, or their limits do not fit.',
    hint: 'Run releases that are at most one apart, with the same limits.',
  },
  checkpoint_invalid: {
    ...SERVER,
    summary: 'A checkpoint file is damaged, or not what the configuration says.',
    hint: 'The message names the file, the tensor and what was expected; fetch the file again.',
  },
  checkpoint_not_found: {
    ...SERVER,
    summary: 'A checkpoint directory or one of its files does not exist.',
    hint: 'Point --model at a directory with config.json and safetensors files.',
  },
  checkpoint_partial: {
    ...SERVER,
    summary: 'Weights are asked for that were not pulled to this machine.',
    hint: 'Pull them: run `guildhall pull` again with the layers and experts that this process needs, or without a selection.',
  },
  hub_denied: {
    ...SERVER,
    summary: 'The model hub refuses access to a repository.',
    hint: 'Accept the terms of the model on its page if it is gated, and set GUILDHALL_HUB_TOKEN (or HF_TOKEN) to a token that may read it.',
  },
  hub_not_found: {
    ...SERVER,
    summary: 'The model hub has no such repository, revision or file.',
    hint: 'Check the name and the revision; a private repository also looks like this without a token.',
  },
  hub_unavailable: {
    ...UNAVAILABLE,
    summary: 'The model hub cannot be reached or does not answer as it should.',
    hint: 'Run the same command again later: it goes on where it stopped. --endpoint names a mirror.',
  },
  hub_invalid: {
    ...SERVER,
    summary: 'The model hub answered with something that cannot be used.',
    hint: 'The message says what; check --endpoint, or report it to the owner of the repository.',
  },
  download_corrupt: {
    ...SERVER,
    summary: 'A downloaded file differs from its checksum, twice.',
    hint: 'Try another mirror with --endpoint, and check the memory and disk of this machine.',
  },
  storage_unavailable: {
    ...UNAVAILABLE,
    summary: 'The object storage does not answer, or refuses.',
    hint: 'The message has its answer; check --files-storage, the endpoint and the credentials (AWS_*), and that the bucket exists.',
  },
  disk_full: {
    ...SERVER,
    summary: 'There is not enough room on the disk.',
    hint: 'Free as much as the message says, or choose another place with --dir or GUILDHALL_HOME.',
  },
  out_of_memory: {
    ...SERVER,
    summary: 'There is not enough memory for what was asked.',
    hint: 'Add memory or workers, or lower --weight-memory-mib so that less is placed here.',
  },
  config_invalid: {
    ...SERVER,
    summary: 'The configuration of a service is wrong.',
    hint: 'The message names the option; --help lists all of them.',
  },
  unsupported: {
    http: 400,
    grpc: 12,
    type: 'invalid_request_error',
    summary: 'This is valid but not supported.',
    hint: 'The message says what is supported.',
  },
  native_invalid_argument: {
    ...SERVER,
    summary: 'An argument of a native call was refused.',
    hint: 'This is a defect: report it with the message, which names the argument.',
  },
  native_failure: {
    ...SERVER,
    summary: 'A native call failed.',
    hint: 'Look at the message: usually memory ran out or the addon does not fit the machine.',
  },
  redis_unavailable: {
    ...UNAVAILABLE,
    summary: 'Redis does not answer.',
    hint: 'Check --redis and that the server runs; services recover by themselves.',
  },
  kubernetes_unavailable: {
    ...UNAVAILABLE,
    summary: 'The API server of Kubernetes does not answer, or answers that it cannot.',
    hint: 'Check that the controller reaches it; the controller tries again by itself and goes on without it meanwhile.',
  },
  kubernetes_refused: {
    ...SERVER,
    summary: 'The API server of Kubernetes refuses a request.',
    hint: 'The message names the request and the reason. For 403 compare the Role of the ServiceAccount with the chart’s.',
  },
  redis_denied: {
    http: 503,
    grpc: 7,
    type: 'server_error',
    summary: 'Redis refuses the credentials, or a command.',
    hint: 'Check --redis-username and --redis-password; docs/redis.md has the rights that a user needs.',
  },
  id_in_use: {
    http: 409,
    grpc: 6,
    type: 'invalid_request_error',
    summary: 'Another live process uses the same id.',
    hint: 'Give each process its own --id, or wait for the lease of the dead one to expire.',
  },
  join_token_invalid: {
    http: 401,
    grpc: 16,
    type: 'authentication_error',
    summary: 'The token to join a cluster with is unknown, revoked or mistyped.',
    hint: 'Make a new one on the head machine: guildhall cluster token create.',
  },
  join_token_expired: {
    http: 401,
    grpc: 16,
    type: 'authentication_error',
    summary: 'The token to join a cluster with has expired.',
    hint: 'Make a new one on the head machine: guildhall cluster token create. Check the clocks of both machines too.',
  },
  authority_mismatch: {
    http: 403,
    grpc: 7,
    type: 'permission_error',
    summary: 'The machine that answers is not the cluster that the token is from.',
    hint: 'Check the address. If the cluster was set up anew, make a new token there: guildhall cluster token create.',
  },
  clock_skew: {
    http: 403,
    grpc: 7,
    type: 'permission_error',
    summary: 'The clocks of two machines differ so much that certificates do not count.',
    hint: 'Set the clock of the machine that is wrong (timedatectl, chrony) and try again.',
  },
  insecure_listen: {
    ...SERVER,
    summary: 'A listen address that others can reach was given without authentication.',
    hint: 'Listen on 127.0.0.1, or set a cluster token (internal services) or an API key (gateway).',
  },
  out_of_pages: {
    http: 503,
    grpc: 8,
    type: 'server_error',
    summary: 'The KV cache has no free page and nothing can be preempted.',
    hint: 'Start the router with a larger --kv-memory or --num-pages, or send shorter prompts.',
  },
  integrity: {
    ...SERVER,
    summary: 'An internal account does not add up.',
    hint: 'This is a defect: report it with the log around it.',
  },
  internal: {
    ...SERVER,
    summary: 'Something failed that should not.',
    hint: 'This is a defect: report it with the log around it.',
  },
} as const satisfies Record<string, ErrorInfo>;

export type ErrorCode = keyof typeof ERRORS;

/** Extra facts of an error. */
export interface FailOptions {
  /** Field, flag or parameter at fault. */
  field?: string | null;
  cause?: unknown;
  details?: Record<string, unknown>;
}

/** The only error class that services throw. */
export class GuildhallError extends Error {
  override readonly name = 'GuildhallError';
  readonly code: ErrorCode;
  readonly field: string | null;
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, options: FailOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.field = options.field ?? null;
    this.details = options.details ?? {};
  }
}

/** Makes the error (`throw fail(...)`); it does not throw. */
export function fail(code: ErrorCode, message: string, options: FailOptions = {}): GuildhallError {
  return new GuildhallError(code, message, options);
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERRORS, code);
}

export function isGuildhallError(err: unknown): err is GuildhallError {
  return err instanceof GuildhallError;
}

/** Registry entry of a code. */
export function errorInfo(code: ErrorCode): ErrorInfo {
  return ERRORS[code];
}

const NATIVE_CODES: Record<string, ErrorCode> = {
  NATIVE_INVALID_ARGUMENT: 'native_invalid_argument',
  NATIVE_FAILURE: 'native_failure',
  NATIVE_UNAVAILABLE: 'native_failure',
};

/** Turns anything caught into a GuildhallError; a stranger becomes `internal` and is kept as the cause only. */
export function toGuildhallError(err: unknown): GuildhallError {
  if (isGuildhallError(err)) return err;
  if (err instanceof Error) {
    const native = NATIVE_CODES[String((err as { code?: unknown }).code)];
    if (native !== undefined) return fail(native, err.message, { cause: err });
    if (err.name === 'AbortError') return fail('cancelled', 'the request was cancelled', { cause: err });
  }
  return fail('internal', 'internal error; the log of the service has the details', { cause: err });
}

/** Text of anything caught, for logs. */
export function errorMessage(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}

/** Body of an HTTP error in OpenAI's shape. */
export interface HttpError {
  status: number;
  body: { error: { message: string; type: string; param: string | null; code: ErrorCode } };
}

export function toHttp(err: unknown): HttpError {
  const known = toGuildhallError(err);
  const info = errorInfo(known.code);
  return {
    status: info.http,
    body: { error: { message: known.message, type: info.type, param: known.field, code: known.code } },
  };
}

const CODE_KEY = 'guildhall-error-code';
const FIELD_KEY = 'guildhall-error-field';

/** gRPC metadata values are printable ASCII; anything else would make grpc-js throw. */
function asciiOnly(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

/** Error to hand to a grpc-js callback or `call.emit('error')`; code and field travel in its metadata. */
export function toGrpc(err: unknown): ServiceError {
  const known = toGuildhallError(err);
  const metadata = new Metadata();
  metadata.set(CODE_KEY, known.code);
  if (known.field !== null) metadata.set(FIELD_KEY, asciiOnly(known.field));
  return Object.assign(new Error(known.message), {
    code: errorInfo(known.code).grpc,
    details: known.message,
    metadata,
  });
}

const CODE_OF_STATUS: Record<number, ErrorCode> = {
  1: 'cancelled',
  3: 'invalid_value',
  4: 'deadline_exceeded',
  5: 'not_found',
  6: 'id_in_use',
  7: 'forbidden',
  8: 'overloaded',
  9: 'protocol_mismatch',
  12: 'unsupported',
  14: 'peer_unavailable',
  16: 'unauthorized',
};

/** The error that a peer sent, or what a bare gRPC status means. */
export function fromGrpc(err: unknown): GuildhallError {
  if (isGuildhallError(err)) return err;
  if (!(err instanceof Error) || typeof (err as { code?: unknown }).code !== 'number') return toGuildhallError(err);
  const service = err as ServiceError;
  const sent = service.metadata?.get(CODE_KEY)[0];
  const code = isErrorCode(sent) ? sent : (CODE_OF_STATUS[service.code] ?? 'internal');
  const field = service.metadata?.get(FIELD_KEY)[0];
  const message = service.details || service.message;
  return fail(code, message, { field: field === undefined ? null : String(field), cause: err });
}
