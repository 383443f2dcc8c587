import { fail } from '@guildhall/common';
import type { GatewayApp } from './types.ts';

/** Routes of OpenAI's API and of vLLM for what models of this kind don't do, and what that is. */
const MISSING: Readonly<Record<string, string>> = {
  '/v1/embeddings': 'make embeddings',
  '/v1/audio/speech': 'speak',
  '/v1/audio/transcriptions': 'transcribe audio',
  '/v1/audio/translations': 'translate audio',
  '/v1/images/generations': 'make images',
  '/v1/images/edits': 'edit images',
  '/v1/images/variations': 'make variations of images',
  '/v1/moderations': 'moderate texts',
  '/v1/videos': 'make videos',
  '/v1/realtime': 'talk in real time',
  '/pooling': 'pool hidden states',
  '/classify': 'classify texts',
  '/score': 'score pairs of texts',
  '/v1/score': 'score pairs of texts',
  '/rerank': 'rerank documents',
  '/v1/rerank': 'rerank documents',
  '/v2/rerank': 'rerank documents',
};

/**
 * A clear answer to requests for what no served model can do: 404 in OpenAI's shape, whatever the body is and before it is
 * read.
 */
export function abilitiesRoute(app: GatewayApp): void {
  for (const [url, what] of Object.entries(MISSING)) {
    app.route({
      method: ['GET', 'POST'],
      url,
      schema: { hide: true },
      onRequest: async () => {
        const message = `the served models generate text and cannot ${what}; use /v1/chat/completions, /v1/completions or /v1/responses`;
        throw fail('not_found', message, { field: 'model' });
      },
      handler: () => undefined,
    });
  }
}
