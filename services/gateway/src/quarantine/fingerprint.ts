import { createHash } from 'node:crypto';
import type { router } from '@guildhall/proto';

/**
 * Names what a request makes routers compute: SHA-256, as hex, over the model, the prompt's token ids and every parameter
 * that the arithmetic of its tokens depends on. Seed, choice and length are left out, so that the same request sent again
 * has the same name; so are salt and tenant. Parameters count, or a caller who breaks a common prompt with absurd ones
 * would have it refused to everybody.
 */
export function requestFingerprint(model: string, request: router.GenerateRequest): string {
  const { sampling, stop, promptIds, promptLogprobs } = request;
  const parameters = [
    sampling?.temperature,
    sampling?.topP,
    sampling?.topK,
    sampling?.minP,
    sampling?.repetitionPenalty,
    sampling?.presencePenalty,
    sampling?.frequencyPenalty,
    [...(sampling?.logitBias ?? [])].toSorted(([a], [b]) => a - b),
    sampling?.topLogprobs,
    promptLogprobs,
    stop?.minTokens,
    stop?.ignoreEos,
    [...(stop?.stopTokenIds ?? [])].toSorted((a, b) => a - b),
    [...(stop?.stopStrings ?? [])].toSorted(),
  ];
  return createHash('sha256')
    .update(JSON.stringify(['request-1', model, parameters]))
    .update(Int32Array.from(promptIds))
    .digest('hex');
}
