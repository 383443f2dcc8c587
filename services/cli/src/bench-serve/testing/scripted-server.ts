import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request as the server got it. */
export interface SeenRequest {
  path: string;
  headers: IncomingMessage['headers'];
  body: Record<string, unknown>;
}

/** What the server does with a request. */
export type Handler = (seen: SeenRequest, response: ServerResponse, number: number) => void | Promise<void>;

/** An HTTP server on a free port that does what a test says. */
export class ScriptedServer {
  readonly seen: SeenRequest[] = [];
  handler: Handler;
  readonly #server: Server;

  private constructor(handler: Handler) {
    this.handler = handler;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(handler: Handler): Promise<ScriptedServer> {
    const server = new ScriptedServer(handler);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString();
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
    const seen = { path: request.url ?? '', headers: request.headers, body };
    if (seen.path === '/v1/models') {
      response.end(JSON.stringify({ object: 'list', data: [{ id: 'scripted' }] }));
      return;
    }
    this.seen.push(seen);
    await this.handler(seen, response, this.seen.length - 1);
  }
}

/** Writes one event. */
export function event(response: ServerResponse, value: unknown): void {
  response.write(`data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`);
}

/** Answers with as many words as `max_tokens` says, in chat's or completions' shape, and usage of a word for a token. */
export function answerWell(seen: SeenRequest, response: ServerResponse): void {
  answer(seen, response, true);
}

/** The same without usage. */
export function answerUncounted(seen: SeenRequest, response: ServerResponse): void {
  answer(seen, response, false);
}

function answer(seen: SeenRequest, response: ServerResponse, usage: boolean): void {
  response.setHeader('content-type', 'text/event-stream');
  const count = Number(seen.body['max_tokens'] ?? 3);
  const chat = seen.path.includes('chat');
  for (let index = 0; index < count; index++) {
    const finish = index === count - 1 ? 'length' : null;
    const said = chat ? { delta: { content: `w${index} ` } } : { text: `w${index} ` };
    event(response, { choices: [{ index: 0, ...said, finish_reason: finish }] });
  }
  if (usage) {
    const prompt = JSON.stringify(seen.body['messages'] ?? seen.body['prompt']).split(' ').length;
    const counts = { prompt_tokens: prompt + 5, completion_tokens: count, prompt_tokens_details: { cached_tokens: 2 } };
    event(response, { choices: [], usage: counts });
  }
  event(response, '[DONE]');
  response.end();
}
