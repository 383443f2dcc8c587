import { z } from 'zod';

/** Paths that a batch may ask for. */
export const ENDPOINTS = ['/v1/chat/completions', '/v1/completions'] as const;
/** Longest name of a line. */
const MAX_CUSTOM_ID = 512;

const requestLine = z.object({
  custom_id: z.string().min(1).max(MAX_CUSTOM_ID),
  method: z.literal('POST'),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

/** One request of a batch. */
export type RequestLine = z.output<typeof requestLine>;

/** Why a line is no request; `param` names the field, '' for the whole line. */
export interface LineProblem {
  code: string;
  message: string;
  param: string;
}

/** Reads a line. `endpoint` is the path that all lines of the batch must ask for. */
export function parseRequestLine(text: string, endpoint: string): RequestLine | LineProblem {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { code: 'invalid_json_line', message: 'the line is not valid JSON', param: '' };
  }
  const parsed = requestLine.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const param = issue?.path.join('.') ?? '';
    return {
      code: 'invalid_request',
      message: `${param === '' ? 'the line' : param}: ${issue?.message ?? 'is wrong'}`,
      param,
    };
  }
  if (parsed.data.url !== endpoint)
    return { code: 'mismatched_url', message: `url: must be ${endpoint}, as the batch says`, param: 'url' };
  if (parsed.data.body['stream'] === true)
    return { code: 'invalid_request', message: 'body.stream: lines of a batch are not streamed', param: 'body.stream' };
  return parsed.data;
}

export function isProblem(line: RequestLine | LineProblem): line is LineProblem {
  return !('custom_id' in line);
}
