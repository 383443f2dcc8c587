import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProcessKubelet } from './kubelet.ts';

const CHUNK = 64 << 10;
const POLL_MS = 100;

function lastLines(text: string, count: number): string {
  if (count === 0) return '';
  const lines = text.split('\n');
  const ends = lines.at(-1) === '' ? 1 : 0;
  return lines.slice(-(count + ends)).join('\n');
}

/** Reads a file from `from` to its end. */
function readFrom(file: string, from: number): Buffer {
  const handle = openSync(file, 'r');
  try {
    const parts: Buffer[] = [];
    for (let at = from; ;) {
      const chunk = Buffer.alloc(CHUNK);
      const count = readSync(handle, chunk, 0, CHUNK, at);
      if (count === 0) return Buffer.concat(parts);
      parts.push(chunk.subarray(0, count));
      at += count;
    }
  } finally {
    closeSync(handle);
  }
}

async function answer(kubelet: ProcessKubelet, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'https://node');
  const [, verb, namespace = '', pod = '', container = ''] = url.pathname.split('/').map(decodeURIComponent);
  if (verb !== 'containerLogs') {
    response.writeHead(404).end('the nodes of the test bench answer for logs only\n');
    return;
  }
  const option = (name: string): string => url.searchParams.get(name) ?? '';
  const runner = kubelet.pod(namespace, pod).container(container);
  const file = runner?.logFile(option('previous') === 'true') ?? null;
  if (runner === undefined || file === null) {
    response.writeHead(400).end(`container ${container} of pod ${pod} has not been started\n`);
    return;
  }
  const all = readFrom(file, 0).toString();
  response.write(option('tailLines') === '' ? all : lastLines(all, Number(option('tailLines'))));
  let at = Buffer.byteLength(all);
  while (option('follow') === 'true' && !response.destroyed && runner.pid !== null) {
    await sleep(POLL_MS);
    if (statSync(file).size === at) continue;
    const more = readFrom(file, at);
    at += more.length;
    response.write(more);
  }
  response.end();
}

/** The part of a kubelet's HTTPS API that `kubectl logs` and `helm test --logs` ask. */
export async function startLogServer(
  kubelet: ProcessKubelet,
  port: number,
  tls: { cert: string; key: string },
): Promise<Server> {
  const server = createServer(tls, (request, response) => {
    answer(kubelet, request, response).catch((error: unknown) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(`${error instanceof Error ? error.message : String(error)}\n`);
    });
  });
  server.listen(port, '0.0.0.0');
  await once(server, 'listening');
  server.unref();
  return server;
}
