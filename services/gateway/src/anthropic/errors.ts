import { type ErrorCode, errorInfo, type GuildhallError } from '@guildhall/common';

const ROUTES = '/v1/messages';

/** An error as Anthropic's API answers it. */
export interface AnthropicErrorAnswer {
  status: number;
  body: { type: 'error'; error: { type: string; message: string; details?: ErrorDetails }; request_id: string };
}

/** What clients decide by, where Anthropic's have a code of their own for it. */
interface ErrorDetails {
  error_code: string;
  unsupported: string[];
}

/** Anthropic's type of an HTTP status, and the status that belongs to it where that is another one. */
const TYPES: Record<number, { type: string; status?: number }> = {
  401: { type: 'authentication_error' },
  403: { type: 'permission_error' },
  404: { type: 'not_found_error' },
  413: { type: 'request_too_large' },
  429: { type: 'rate_limit_error' },
  503: { type: 'overloaded_error', status: 529 },
  504: { type: 'timeout_error' },
};

/** Whether errors of a request are to be in Anthropic's shape, by its path. */
export function speaksAnthropic(url: string): boolean {
  const path = url.split('?')[0] ?? '';
  return path === ROUTES || path.startsWith(`${ROUTES}/`);
}

/** Status of an error under Anthropic's routes. */
export function anthropicStatus(code: ErrorCode): number {
  const { http } = errorInfo(code);
  return TYPES[http]?.status ?? http;
}

/** An error of the registry in Anthropic's envelope. */
export function anthropicAnswer(error: GuildhallError, requestId: string): AnthropicErrorAnswer {
  const { code, message } = error;
  const { http } = errorInfo(code);
  const type = TYPES[http]?.type ?? (http >= 500 ? 'api_error' : 'invalid_request_error');
  return {
    status: anthropicStatus(code),
    body: { type: 'error', error: { type, message, ...detailsOf(error) }, request_id: requestId },
  };
}

/** That a thread is refused: the client's tool runner then sends all messages, as without one. */
function detailsOf({ code, field }: GuildhallError): { details?: ErrorDetails } {
  if (code !== 'unsupported' || field !== 'thread') return {};
  return { details: { error_code: 'thread_unsupported_request', unsupported: ['thread'] } };
}
