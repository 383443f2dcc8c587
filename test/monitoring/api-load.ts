import OpenAI, { toFile } from 'openai';
import { guildhall } from '../harness/command.ts';
import { type Cluster, until } from '../harness/index.ts';

/** A schema; another number is another grammar. */
function personFormat(length: number): OpenAI.ResponseFormatJSONSchema {
  const properties = { name: { type: 'string', maxLength: length } };
  const schema = { type: 'object', properties, required: ['name'] };
  return { type: 'json_schema', json_schema: { name: 'person', schema } };
}

const TOOL = {
  type: 'function',
  function: { name: 'look', parameters: { type: 'object', properties: { at: { type: 'string' } } } },
} as const;
const ASK = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Who keeps the hall?' }], max_tokens: 12 };

/** Keys, and a request of each kind that dashboards tell of. */
export class ApiLoad {
  readonly #free: OpenAI;
  readonly #bounded: OpenAI;
  readonly #stranger: OpenAI;
  #rounds = 0;

  private constructor(cluster: Cluster, keys: { free: string; bounded: string }) {
    const client = (apiKey: string): OpenAI => new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey, maxRetries: 0 });
    this.#free = client(keys.free);
    this.#bounded = client(keys.bounded);
    this.#stranger = client(`gh_${'0'.repeat(12)}_${'0'.repeat(43)}`);
  }

  /** Makes the keys, one of them with a small quota, and waits until the batch service is known. */
  static async start(cluster: Cluster): Promise<ApiLoad> {
    const env = { GUILDHALL_REDIS: cluster.redis.url, GUILDHALL_CLUSTER: 'test' };
    const make = async (...args: string[]): Promise<string> =>
      (JSON.parse(await guildhall(['keys', 'create', '--json', ...args], env)) as { key: string }).key;
    const load = new ApiLoad(cluster, {
      free: await make('--tenant', 'free', '--tokens-per-minute', '10000000'),
      bounded: await make('--tenant', 'bounded', '--requests-per-minute', '1'),
    });
    await until('the batch service', async () => (await load.#free.files.list({ limit: 1 })).data !== null);
    return load;
  }

  /** One request of each kind. Those that are to be refused are. */
  async round(): Promise<void> {
    const api = this.#free;
    this.#rounds += 1;
    await Promise.all([
      // One that is compiled already, and one that never was.
      api.chat.completions.create({ ...ASK, response_format: personFormat(8) }),
      api.chat.completions.create({ ...ASK, response_format: personFormat(8 + this.#rounds) }),
      api.chat.completions.create({ ...ASK, tools: [TOOL] }),
      api.responses.create({ model: 'tiny', input: 'Hello', max_output_tokens: 4 }),
      api.responses.create({ model: 'tiny', input: 'Hello', max_output_tokens: 4, background: true }),
      api.chat.completions.create({ ...ASK }),
      refused(this.#bounded),
      refused(this.#bounded),
      refused(this.#stranger),
    ]);
  }

  /** A batch of three lines, to its end. */
  async batch(): Promise<void> {
    const { messages, model } = ASK;
    const line = (i: number): string =>
      JSON.stringify({
        custom_id: `line-${i}`,
        method: 'POST',
        url: '/v1/chat/completions',
        body: { model, messages, max_tokens: 2 },
      });
    const text = [0, 1, 2].map(line).join('\n');
    const { id } = await this.#free.files.create({
      file: await toFile(Buffer.from(text), 'in.jsonl'),
      purpose: 'batch',
    });
    const batch = await this.#free.batches.create({
      input_file_id: id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
    });
    const over = async (): Promise<boolean> => (await this.#free.batches.retrieve(batch.id)).status === 'completed';
    await until('the batch', over, 120_000);
  }
}

/** Asks; the answer may be a refusal of the key or of its quota and nothing else. */
async function refused(api: OpenAI): Promise<void> {
  try {
    await api.chat.completions.create({ ...ASK, max_tokens: 1 });
  } catch (err) {
    if (!(err instanceof OpenAI.AuthenticationError || err instanceof OpenAI.RateLimitError)) throw err;
  }
}
