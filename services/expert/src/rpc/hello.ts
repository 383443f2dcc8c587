import { fail } from '@guildhall/common';
import { experts } from '@guildhall/proto';
import { rowBytes, type WorkerIdentity } from '../identity.ts';

/** Protocol versions that this release speaks. */
export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 1;

/** Bytes of a message besides its rows, at most: headers, entry counts, expert numbers and gate weights of one row. */
const OVERHEAD_BYTES = 4096;

const ROW_FORMATS = { f32: experts.RowFormat.ROW_FORMAT_F32, bf16: experts.RowFormat.ROW_FORMAT_BF16 } as const;
export const COMBINE_MODES = {
  exact: experts.CombineMode.COMBINE_MODE_EXACT,
  partial: experts.CombineMode.COMBINE_MODE_PARTIAL,
} as const;

/** What a stream agreed on. */
export interface Session {
  protocol: number;
  lane: 'decode' | 'prefill';
  routerId: string;
  /** Largest message that the router accepts. */
  maxReplyBytes: number;
}

function nameOf(values: Record<string | number, string | number>, value: number): string {
  const name = Object.keys(values).find((key) => values[key] === value);
  return name ?? String(value);
}

/**
 * Checks a router's hello against this worker. A mismatch throws `protocol_mismatch`, `fingerprint_mismatch` or
 * `numerics_mismatch` with the values of both sides.
 */
export function acceptHello(hello: experts.Hello, own: WorkerIdentity): Session {
  checkProtocol(hello);
  if (hello.modelFingerprint !== own.fingerprint) {
    throw fail(
      'fingerprint_mismatch',
      `worker ${own.id} has checkpoint ${own.fingerprint}, router ${hello.routerId} has ${hello.modelFingerprint}`,
      {
        field: 'model_fingerprint',
      },
    );
  }
  if (hello.numericsId !== own.numericsId) {
    throw fail(
      'numerics_mismatch',
      `worker ${own.id} computes in ${own.numericsId}, router ${hello.routerId} in ${hello.numericsId}`,
      {
        field: 'numerics_id',
      },
    );
  }
  const rowFormat = ROW_FORMATS[own.rowFormat];
  if (hello.rowFormat !== rowFormat) {
    throw mismatch('row_format', nameOf(experts.RowFormat, rowFormat), nameOf(experts.RowFormat, hello.rowFormat));
  }
  const combine = COMBINE_MODES[own.combine];
  if (hello.combineMode !== combine) {
    throw mismatch(
      'combine_mode',
      nameOf(experts.CombineMode, combine),
      nameOf(experts.CombineMode, hello.combineMode),
    );
  }
  return {
    protocol: Math.min(hello.protocolMax, PROTOCOL_MAX),
    lane: laneOf(hello),
    routerId: hello.routerId,
    maxReplyBytes: checkLimits(hello, own),
  };
}

function mismatch(field: string, own: string, theirs: string): Error {
  return fail('protocol_mismatch', `${field}: worker has ${own}, router has ${theirs}`, { field });
}

function checkProtocol(hello: experts.Hello): void {
  if (hello.protocolMin <= PROTOCOL_MAX && hello.protocolMax >= PROTOCOL_MIN && hello.protocolMin <= hello.protocolMax)
    return;
  throw mismatch('protocol', `${PROTOCOL_MIN}..${PROTOCOL_MAX}`, `${hello.protocolMin}..${hello.protocolMax}`);
}

function laneOf(hello: experts.Hello): 'decode' | 'prefill' {
  if (hello.lane === experts.Lane.LANE_DECODE) return 'decode';
  if (hello.lane === experts.Lane.LANE_PREFILL) return 'prefill';
  throw mismatch('lane', 'LANE_DECODE or LANE_PREFILL', nameOf(experts.Lane, hello.lane));
}

/** One token's rows, there and back, must fit in a message of either side. */
function checkLimits(hello: experts.Hello, own: WorkerIdentity): number {
  const rowsBack = own.combine === 'exact' ? own.topK : 1;
  const needed = rowBytes(own) * rowsBack + OVERHEAD_BYTES;
  if (hello.maxMessageBytes >= needed && own.maxMessageBytes >= needed) return hello.maxMessageBytes;
  throw mismatch(
    'max_message_bytes',
    `${own.maxMessageBytes} and one token needs ${needed}`,
    String(hello.maxMessageBytes),
  );
}

/** The worker's answer to a hello that it accepts. */
export function helloReply(own: WorkerIdentity, session: Session): Buffer {
  return Buffer.from(
    experts.ServerFrame.encode({
      frame: {
        $case: 'hello',
        value: {
          protocol: session.protocol,
          workerId: own.id,
          workerIncarnation: own.incarnation,
          modelFingerprint: own.fingerprint,
          numericsId: own.numericsId,
          maxMessageBytes: own.maxMessageBytes,
          maxQueued: own.maxQueued,
          hiddenSize: own.hidden,
          numLayers: own.numLayers,
          numExperts: own.numExperts,
        },
      },
    }).finish(),
  );
}
