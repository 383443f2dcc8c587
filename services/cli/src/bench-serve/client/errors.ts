/** Why a request counts as failed: a closed list, but for the status of an HTTP error. */
export const ERROR_KINDS = {
  connection_refused: 'nothing listens there',
  connection_failed: 'no connection: name, route or TLS',
  connection_lost: 'the connection broke before the answer was whole',
  timeout: 'longer than --timeout',
  stream_error: 'the server sent an error within the stream',
  stream_cut: 'the stream ended without a finish reason or [DONE]',
  bad_answer: 'an answer that is no event stream of this API',
  no_tokens: 'an answer without a token',
} as const;

export type ErrorKind = keyof typeof ERROR_KINDS | `http_${number}`;

/** What went wrong with a request. */
export interface RequestFailure {
  kind: ErrorKind;
  message: string;
}

const CONNECT_CODES: ReadonlySet<string> = new Set([
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
]);
const LOST_CODES: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
  'HPE_INVALID_EOF_STATE',
]);

/** The kind of an error of Node's HTTP client. */
export function transportFailure(error: NodeJS.ErrnoException): RequestFailure {
  const code = error.code ?? '';
  const kind =
    code === 'ECONNREFUSED'
      ? 'connection_refused'
      : LOST_CODES.has(code) || error.message === 'aborted'
        ? 'connection_lost'
        : CONNECT_CODES.has(code) || code.startsWith('ERR_TLS') || /CERT|SELF_SIGNED|SSL/.test(code)
          ? 'connection_failed'
          : code.startsWith('HPE_')
            ? 'bad_answer'
            : 'connection_failed';
  return { kind, message: error.message };
}

/** What a person should do about a kind, one line. */
export function explainKind(kind: string): string {
  if (kind.startsWith('http_')) return `the server answered with status ${kind.slice('http_'.length)}`;
  return (ERROR_KINDS as Record<string, string>)[kind] ?? kind;
}
