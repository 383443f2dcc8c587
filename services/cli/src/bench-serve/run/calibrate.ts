import { fail } from '@guildhall/common';
import type { BodyOptions } from '../client/api.ts';
import type { Send } from '../client/http-client.ts';
import { ASSUMED_RATE, rateFrom, type TokenRate, wordsOf } from '../workload/text.ts';

const FEW = 32;
const MANY = 288;

/**
 * Asks the server twice for one token, and learns from its counts how many tokens a word has. A server that does not answer is
 * found here, before any load. Throws `peer_unavailable`.
 */
export async function measureTokenRate(
  send: Send,
  body: Omit<BodyOptions, 'outputTokens'>,
  seed: number,
  signal: AbortSignal,
): Promise<TokenRate> {
  const measured: { words: number; tokens: number }[] = [];
  for (const words of [FEW, MANY]) {
    const messages = [{ role: 'user', content: wordsOf(seed, `calibration ${words}`, words) }];
    const request = { messages, body: { ...body, outputTokens: 1 }, keepText: false, onText: () => undefined };
    const { answer, failure } = await send(request, signal);
    if (failure === 'aborted') throw fail('cancelled', 'stopped before any load');
    // One token may be half a character, or the end itself: it need not have text.
    if (failure !== null && failure.kind !== 'no_tokens') throw refused(failure);
    if (answer.usage !== null) measured.push({ words, tokens: answer.usage.prompt });
  }
  const [few, many] = measured;
  return few === undefined || many === undefined ? ASSUMED_RATE : rateFrom(few, many);
}

function refused({ kind, message }: { kind: string; message: string }): Error {
  const hint = kind === 'http_400' ? '; a server that does not know ignore_eos wants --no-ignore-eos' : '';
  return fail('peer_unavailable', `the first request failed, ${kind}: ${message}${hint}`);
}
