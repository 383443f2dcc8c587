import type { ClientReadableStream } from '@grpc/grpc-js';
import { authMetadata, channelCredentials, channelOptions, fromGrpc, type GuildhallError } from '@guildhall/common';
import { router } from '@guildhall/proto';

/** Fields of a request that differ from a greedy answer of 16 tokens, whatever they are. */
export interface RequestFields extends Omit<Partial<router.GenerateRequest>, 'sampling' | 'stop'> {
  promptIds: number[];
  sampling?: Partial<router.SamplingParams>;
  stop?: Partial<router.StopConditions>;
}

/** What a Generate call gave; times in milliseconds on this process's clock. */
export interface Answer {
  started: router.Started | null;
  tokens: router.TokenEvent[];
  /** Of the prompt, where its log-probabilities were asked for. */
  prompt: router.TokenEvent[];
  finished: router.Finished | null;
  error: GuildhallError | null;
  sentAt: number;
  /** Arrival of each token. */
  tokenTimes: number[];
}

/** A call in progress. */
export interface Call {
  answer: Answer;
  done: Promise<Answer>;
  cancel(): void;
}

let requests = 0;

/** A request for the model `tiny`: greedy, 16 tokens whatever they are, log-probabilities of the sampled ones. */
export function requestOf(fields: RequestFields): router.GenerateRequest {
  requests += 1;
  return router.GenerateRequest.fromPartial({
    requestId: `request-${requests}`,
    model: 'tiny',
    ...fields,
    sampling: {
      temperature: 0,
      topP: 1,
      repetitionPenalty: 1,
      topLogprobs: 0,
      ...fields.sampling,
      logitBias: fields.sampling?.logitBias ?? new Map(),
    },
    stop: { maxTokens: 16, ignoreEos: true, ...fields.stop },
  });
}

/** Bits of an answer that a cache must not change: ids and log-probabilities of prompt and answer, with alternatives. */
export function bitsOf({ tokens, prompt }: Answer): unknown {
  const bits = (events: readonly router.TokenEvent[]): unknown =>
    events.map(({ id, logprob, top }) => [id, logprob, top.map((other) => [other.id, other.logprob])]);
  return { tokens: bits(tokens), prompt: bits(prompt) };
}

/** Calls one router as a gateway does. */
export class RouterClient {
  readonly address: string;
  readonly #client: router.RouterClient;
  readonly #metadata: ReturnType<typeof authMetadata>;

  /** `token` is the cluster's, or null. */
  constructor(address: string, token: string | null) {
    const security = { clusterToken: token, tlsCert: null, tlsKey: null, tlsCa: null };
    this.address = address;
    this.#metadata = authMetadata(security);
    const options = channelOptions({ maxMessageBytes: 16 << 20 });
    this.#client = new router.RouterClient(address, channelCredentials(security), options);
  }

  close(): void {
    this.#client.close();
  }

  start(fields: RequestFields): Call {
    const request = requestOf(fields);
    const sentAt = performance.now();
    return gather(this.#client.generate(request, this.#metadata), sentAt);
  }

  /** A finished answer. Throws what the call failed with. */
  async generate(fields: RequestFields): Promise<Answer> {
    const answer = await this.start(fields).done;
    if (answer.error !== null) throw answer.error;
    return answer;
  }

  async info(): Promise<router.RouterInfo> {
    return new Promise((resolve, reject) => {
      this.#client.getInfo({}, this.#metadata, (err, info) => (err === null ? resolve(info) : reject(fromGrpc(err))));
    });
  }
}

function gather(stream: ClientReadableStream<router.GenerateEvent>, sentAt: number): Call {
  const answer: Answer = {
    started: null,
    tokens: [],
    prompt: [],
    finished: null,
    error: null,
    sentAt,
    tokenTimes: [],
  };
  const done = new Promise<Answer>((resolve) => {
    stream.on('data', ({ event }: router.GenerateEvent) => take(answer, event));
    stream.on('error', (err) => {
      answer.error = fromGrpc(err);
      resolve(answer);
    });
    stream.on('end', () => resolve(answer));
  });
  return { answer, done, cancel: () => stream.cancel() };
}

function take(answer: Answer, event: router.GenerateEvent['event']): void {
  if (event?.$case === 'token') {
    answer.tokens.push(event.value);
    answer.tokenTimes.push(performance.now());
  } else if (event?.$case === 'started') answer.started = event.value;
  else if (event?.$case === 'promptLogprobs') answer.prompt.push(...event.value.tokens);
  else if (event?.$case === 'finished') answer.finished = event.value;
}
