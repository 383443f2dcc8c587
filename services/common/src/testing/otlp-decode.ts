/** A span as a collector gets it. */
export interface SinkSpan {
  traceId: string;
  spanId: string;
  /** '' for a root. */
  parentSpanId: string;
  name: string;
  /** 1 internal, 2 server, 3 client. */
  kind: number;
  startNs: bigint;
  endNs: bigint;
  attributes: Record<string, unknown>;
  events: { name: string; attributes: Record<string, unknown> }[];
  links: { traceId: string; spanId: string }[];
  /** 0 unset, 1 ok, 2 error. */
  status: number;
  statusMessage: string;
  /** Attributes of the process. */
  resource: Record<string, unknown>;
}

type Field = { number: number; bytes: Buffer; value: bigint };

/** Fields of a protobuf message in their order; numbers in `value`, what has a length in `bytes`. */
function* fieldsOf(bytes: Buffer): Generator<Field> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('truncated varint');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (size: number): Buffer => {
    if (at + size > bytes.length) throw new Error('truncated field');
    at += size;
    return bytes.subarray(at - size, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const number = tag >> 3;
    const none = Buffer.alloc(0);
    if ((tag & 7) === 0) yield { number, bytes: none, value: varint() };
    else if ((tag & 7) === 1) {
      const eight = take(8);
      yield { number, bytes: eight, value: eight.readBigUInt64LE() };
    } else if ((tag & 7) === 2) yield { number, bytes: take(Number(varint())), value: 0n };
    else if ((tag & 7) === 5) yield { number, bytes: none, value: BigInt(take(4).readUInt32LE()) };
    else throw new Error(`wire type ${tag & 7}`);
  }
}

/** AnyValue: string 1, bool 2, int 3, double 4, array 5. */
function anyValue(bytes: Buffer): unknown {
  for (const { number, bytes: inner, value } of fieldsOf(bytes)) {
    if (number === 1) return inner.toString('utf8');
    if (number === 2) return value !== 0n;
    if (number === 3) return Number(BigInt.asIntN(64, value));
    if (number === 4) return inner.readDoubleLE();
    if (number === 5) return [...fieldsOf(inner)].map((item) => anyValue(item.bytes));
  }
  return null;
}

function addAttribute(into: Record<string, unknown>, bytes: Buffer): void {
  let key = '';
  let value: unknown = null;
  for (const field of fieldsOf(bytes)) {
    if (field.number === 1) key = field.bytes.toString('utf8');
    if (field.number === 2) value = anyValue(field.bytes);
  }
  into[key] = value;
}

function spanOf(bytes: Buffer, resource: Record<string, unknown>): SinkSpan {
  const span: SinkSpan = {
    traceId: '',
    spanId: '',
    parentSpanId: '',
    name: '',
    kind: 0,
    startNs: 0n,
    endNs: 0n,
    attributes: {},
    events: [],
    links: [],
    status: 0,
    statusMessage: '',
    resource,
  };
  for (const { number, bytes: inner, value } of fieldsOf(bytes)) {
    if (number === 1) span.traceId = inner.toString('hex');
    else if (number === 2) span.spanId = inner.toString('hex');
    else if (number === 4) span.parentSpanId = inner.toString('hex');
    else if (number === 5) span.name = inner.toString('utf8');
    else if (number === 6) span.kind = Number(value);
    else if (number === 7) span.startNs = value;
    else if (number === 8) span.endNs = value;
    else if (number === 9) addAttribute(span.attributes, inner);
    else if (number === 11) span.events.push(eventOf(inner));
    else if (number === 13) span.links.push(linkOf(inner));
    else if (number === 15) readStatus(span, inner);
  }
  return span;
}

function eventOf(bytes: Buffer): SinkSpan['events'][number] {
  const event: SinkSpan['events'][number] = { name: '', attributes: {} };
  for (const { number, bytes: inner } of fieldsOf(bytes)) {
    if (number === 2) event.name = inner.toString('utf8');
    if (number === 3) addAttribute(event.attributes, inner);
  }
  return event;
}

function linkOf(bytes: Buffer): SinkSpan['links'][number] {
  const link = { traceId: '', spanId: '' };
  for (const { number, bytes: inner } of fieldsOf(bytes)) {
    if (number === 1) link.traceId = inner.toString('hex');
    if (number === 2) link.spanId = inner.toString('hex');
  }
  return link;
}

function readStatus(span: SinkSpan, bytes: Buffer): void {
  for (const { number, bytes: inner, value } of fieldsOf(bytes)) {
    if (number === 2) span.statusMessage = inner.toString('utf8');
    if (number === 3) span.status = Number(value);
  }
}

/** Spans of an ExportTraceServiceRequest (opentelemetry.proto.collector.trace.v1). */
export function decodeTraces(request: Buffer): SinkSpan[] {
  const spans: SinkSpan[] = [];
  for (const { number, bytes } of fieldsOf(request)) {
    if (number !== 1) continue;
    const resource: Record<string, unknown> = {};
    const scopes: Buffer[] = [];
    for (const field of fieldsOf(bytes)) {
      if (field.number === 1)
        for (const inner of fieldsOf(field.bytes)) if (inner.number === 1) addAttribute(resource, inner.bytes);
      if (field.number === 2) scopes.push(field.bytes);
    }
    for (const scope of scopes)
      for (const field of fieldsOf(scope)) if (field.number === 2) spans.push(spanOf(field.bytes, resource));
  }
  return spans;
}
