import type { ServerWritableStream } from '@grpc/grpc-js';
import {
  type Clock,
  type ErrorCode,
  fail,
  type Logger,
  type Metrics,
  NAME_BYTES,
  PacedCall,
  type PageName,
  type Span,
  toGrpc,
  toGuildhallError,
  type Tracing,
  unpackNames,
} from '@guildhall/common';
import type { pages } from '@guildhall/proto';
import type { Blob, BlobKind } from '../kv/blob.ts';
import type { ParkedSequences } from '../kv/parked.ts';
import { MAX_NAMES, PART_BYTES, toWireKind } from '../kv/peer/wire.ts';

/** Where shared blobs are read from: the pool, host memory, disk. */
export interface BlobSource {
  /** The blob with its checksum, or null. Nothing of it is evicted while it is read. Stops early when aborted. */
  read(kind: BlobKind, name: PageName, signal: AbortSignal): Promise<Blob | null>;
}

export interface PagesRpcOptions {
  source: BlobSource;
  parked: Pick<ParkedSequences, 'open' | 'release'>;
  identity: { fingerprint: string; numericsId: string };
  /** Left out where nothing is traced. */
  tracing?: Tracing;
  clock: Clock;
  metrics: Metrics;
  logger: Logger;
  /** A fetch begins. */
  onFetch?: () => void;
  /** Fetches served at a time; more are refused. */
  maxFetches: number;
  /** Time after which a reader that takes nothing is cut off, milliseconds. */
  readerLimitMs: number;
}

type FetchCall = ServerWritableStream<pages.FetchRequest, pages.FetchReply>;
type Paced = PacedCall<pages.FetchReply>;

const MAX_HANDLE_LENGTH = 256;
const OUTCOMES: Partial<Record<ErrorCode, string>> = {
  fingerprint_mismatch: 'refused',
  numerics_mismatch: 'refused',
  invalid_value: 'refused',
  missing_field: 'refused',
  not_found: 'refused',
  overloaded: 'overloaded',
  cancelled: 'cancelled',
  deadline_exceeded: 'stalled',
};

/** The Pages service: gives other routers what this one holds. Sending never holds up the engine. */
export function pagesRpc(options: PagesRpcOptions): pages.PagesServer {
  let running = 0;
  return {
    fetch: (call) => {
      const paced: Paced = new PacedCall(call, options);
      if (running >= options.maxFetches) {
        const err = fail('overloaded', `${running} fetches are served already, which is the limit`);
        return refuse(options, paced, err);
      }
      running += 1;
      options.onFetch?.();
      const span = spanOf(options, call);
      void serve(options, call, paced)
        .then(
          () => options.metrics.count('guildhall_kv_fetches_total', { outcome: 'complete' }),
          (err: unknown) => {
            span?.fail(toGuildhallError(err).code);
            refuse(options, paced, err);
          },
        )
        .finally(() => {
          running -= 1;
          span?.end();
        });
    },
    release: (call, reply) => {
      try {
        reply(null, { released: options.parked.release(call.request.handle.slice(0, MAX_HANDLE_LENGTH)) });
      } catch (err) {
        reply(toGrpc(err));
      }
    },
  };
}

/** The span of a fetch whose caller traces it. */
function spanOf({ tracing }: PagesRpcOptions, call: FetchCall): Span | null {
  if (tracing?.enabled !== true) return null;
  const [context] = call.metadata.get('traceparent');
  const attributes = { 'rpc.system': 'grpc', 'rpc.method': 'guildhall.v1.Pages/Fetch' };
  return tracing.join('serve pages', typeof context === 'string' ? context : null, { role: 'server', attributes });
}

function refuse(options: PagesRpcOptions, paced: Paced, err: unknown): void {
  const { code } = toGuildhallError(err);
  const outcome = OUTCOMES[code] ?? 'failed';
  options.metrics.count('guildhall_kv_fetches_total', { outcome });
  if (outcome === 'failed') options.logger.error({ err }, 'a fetch of pages failed');
  paced.fail(err);
}

async function serve(options: PagesRpcOptions, { request }: FetchCall, paced: Paced): Promise<void> {
  checkIdentity(request, options.identity);
  const { what } = request;
  if (what?.$case === 'named') await sendNamed(options, wantedOf(what.value), paced);
  else if (what?.$case === 'sequence') await sendSequence(options, what.value, paced);
  else throw fail('missing_field', 'what to fetch is missing', { field: 'what' });
  await paced.end();
}

function checkIdentity(request: pages.FetchRequest, own: PagesRpcOptions['identity']): void {
  const pairs = [
    ['fingerprint_mismatch', 'model_fingerprint', request.modelFingerprint, own.fingerprint],
    ['numerics_mismatch', 'numerics_id', request.numericsId, own.numericsId],
  ] as const;
  for (const [code, field, given, held] of pairs) {
    if (given !== held) throw fail(code, `this router has ${held}, asked for was ${given.slice(0, 256)}`, { field });
  }
}

/** Blobs in the order in which they are sent. */
function wantedOf({ pageNames, stateName }: pages.NamedBlobs): { kind: BlobKind; name: PageName }[] {
  if (pageNames.length > MAX_NAMES * NAME_BYTES) {
    throw fail('invalid_value', `at most ${MAX_NAMES} pages are sent at a time`, { field: 'named.page_names' });
  }
  const names = unpackNames(pageNames);
  if (names === null) {
    throw fail('invalid_value', `${pageNames.length} bytes are not names of 16`, { field: 'named.page_names' });
  }
  const states = stateName.length <= NAME_BYTES ? unpackNames(stateName) : null;
  if (states === null) {
    throw fail('invalid_value', `${stateName.length} bytes are no name of 16`, { field: 'named.state_name' });
  }
  return [
    ...names.map((name) => ({ kind: 'page' as const, name })),
    ...states.map((name) => ({ kind: 'state' as const, name })),
  ];
}

/** Sends blobs until one is missing: what comes behind it is of no use. The next is read while one is sent. */
async function sendNamed(
  options: PagesRpcOptions,
  wanted: readonly { kind: BlobKind; name: PageName }[],
  paced: Paced,
): Promise<void> {
  const read = async (at: number): Promise<Blob | null> => {
    const blob = wanted[at];
    return blob === undefined ? null : await options.source.read(blob.kind, blob.name, paced.signal);
  };
  let next = read(0);
  for (let at = 0; at < wanted.length; at++) {
    const blob = await next;
    if (blob === null) return;
    paced.signal.throwIfAborted();
    next = read(at + 1);
    // Its failure is met in its turn; if sending fails before, nobody asks.
    next.catch(() => undefined);
    const { kind, name, size, checksum, value } = blob;
    const tokenIds = Array.from(blob.tokens);
    await sendBlob(options, paced, blob.data, {
      kind: toWireKind(kind),
      name: Buffer.from(name, 'latin1'),
      index: 0,
      size: BigInt(size),
      checksum,
      tokenIds,
      value,
    });
  }
}

async function sendBlob(options: PagesRpcOptions, paced: Paced, data: Uint8Array, head: pages.BlobHead): Promise<void> {
  await paced.write({ part: { $case: 'head', value: head } });
  for (let at = 0; at < data.length; at += PART_BYTES) {
    const part = asBuffer(data.subarray(at, at + PART_BYTES));
    await paced.write({ part: { $case: 'data', value: part } });
    options.metrics.count('guildhall_kv_served_bytes_total', {}, part.length);
  }
}

/** Sends what a parked sequence owns: its pages from `first_page` on, and its state. */
async function sendSequence(options: PagesRpcOptions, asked: pages.ParkedSequence, paced: Paced): Promise<void> {
  const opened = options.parked.open(asked.handle.slice(0, MAX_HANDLE_LENGTH));
  if (opened === null) throw fail('not_found', 'no sequence is parked under this handle', { field: 'sequence.handle' });
  try {
    const { record } = opened;
    const { numComputed, tokenDigest, numPages, firstOwnPage } = record;
    await paced.write({
      part: { $case: 'sequence', value: { numComputed, tokenDigest: asBuffer(tokenDigest), numPages, firstOwnPage } },
    });
    const own = { name: Buffer.alloc(0), tokenIds: [], value: 0 };
    for (let index = Math.max(asked.firstPage, firstOwnPage); index < numPages; index++) {
      const page = await record.page(index);
      if (page === null) return;
      const { data, checksum } = page;
      const head = { ...own, kind: toWireKind('page'), index, size: BigInt(data.length), checksum };
      await sendBlob(options, paced, data, head);
    }
    const state = await record.state();
    if (state === null) return;
    const { data, checksum } = state;
    await sendBlob(options, paced, data, {
      ...own,
      kind: toWireKind('state'),
      index: 0,
      size: BigInt(data.length),
      checksum,
    });
  } finally {
    opened.close();
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
