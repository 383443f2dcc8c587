import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from 'node:http';
import { gunzipSync } from 'node:zlib';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { decodeTraces, type SinkSpan } from './otlp-decode.ts';

const EXPORT_PATH = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
const identity = (bytes: Buffer): Buffer => bytes;

/** A collector that keeps the spans it gets, over gRPC and over HTTP. */
export class OtlpSink {
  /** In the order of their arrival. */
  readonly spans: SinkSpan[] = [];
  /** Requests so far. */
  numRequests = 0;
  #waiting: { until: (spans: readonly SinkSpan[]) => boolean; resolve: () => void }[] = [];
  readonly #grpc: Server;
  readonly #http: HttpServer;
  readonly #ports: { grpc: number; http: number };

  private constructor(grpc: Server, http: HttpServer, ports: { grpc: number; http: number }) {
    this.#grpc = grpc;
    this.#http = http;
    this.#ports = ports;
  }

  static async start(): Promise<OtlpSink> {
    const grpc = new Server();
    const http = createServer();
    const ports = { grpc: 0, http: 0 };
    const sink = new OtlpSink(grpc, http, ports);
    const method = { path: EXPORT_PATH, requestStream: false, responseStream: false } as const;
    const codec = { requestSerialize: identity, requestDeserialize: identity };
    const answers = { responseSerialize: identity, responseDeserialize: identity };
    grpc.addService(
      { export: { ...method, ...codec, ...answers } },
      {
        export: (call: { request: Buffer }, reply: (err: null, bytes: Buffer) => void) => {
          sink.#take(call.request);
          reply(null, Buffer.alloc(0));
        },
      },
    );
    ports.grpc = await new Promise((resolve, reject) => {
      grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (err, port) =>
        err === null ? resolve(port) : reject(err),
      );
    });
    http.on('request', (request, response) => void sink.#onHttp(request, response));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const address = http.address();
    ports.http = typeof address === 'object' && address !== null ? address.port : 0;
    return sink;
  }

  get grpcUrl(): string {
    return `http://127.0.0.1:${this.#ports.grpc}`;
  }

  /** With a path, so that `auto` takes http/protobuf. */
  get httpUrl(): string {
    return `http://127.0.0.1:${this.#ports.http}/otlp`;
  }

  named(name: string): SinkSpan[] {
    return this.spans.filter((span) => span.name === name);
  }

  /** Resolves once `until` holds of what has arrived. */
  async wait(until: (spans: readonly SinkSpan[]) => boolean): Promise<void> {
    if (until(this.spans)) return;
    await new Promise<void>((resolve) => this.#waiting.push({ until, resolve }));
  }

  async close(): Promise<void> {
    this.#grpc.forceShutdown();
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  #take(request: Buffer): void {
    this.numRequests += 1;
    this.spans.push(...decodeTraces(request));
    for (const { resolve } of this.#waiting.filter(({ until }) => until(this.spans))) resolve();
    this.#waiting = this.#waiting.filter(({ until }) => !until(this.spans));
  }

  async #onHttp(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    if (request.url !== '/otlp/v1/traces') return void response.writeHead(404).end();
    this.#take(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body);
    response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
  }
}
