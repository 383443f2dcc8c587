/** How load is offered in one part of a run. */
export type LoadPoint =
  /** Open loop: conversations begin at this mean rate, whatever the server does. */
  | { kind: 'rate'; perSecond: number }
  /** Closed loop: this many clients, each with one request at a time. */
  | { kind: 'concurrency'; clients: number }
  /** Open loop at the times of a trace, this many times as fast. */
  | { kind: 'replay'; speed: number };

/** The parameter of a point: the x axis of a sweep. */
export function pointValue(point: LoadPoint): number {
  switch (point.kind) {
    case 'rate':
      return point.perSecond;
    case 'concurrency':
      return point.clients;
    case 'replay':
      return point.speed;
  }
}

/** A point in a few words. */
export function pointLabel(point: LoadPoint): string {
  switch (point.kind) {
    case 'rate':
      return `${point.perSecond}/s`;
    case 'concurrency':
      return point.clients === 1 ? '1 client' : `${point.clients} clients`;
    case 'replay':
      return `trace × ${point.speed}`;
  }
}

/** What the x axis of a sweep over such points is called. */
export const POINT_AXIS: Readonly<Record<LoadPoint['kind'], string>> = {
  rate: 'offered conversations per second',
  concurrency: 'clients at a time',
  replay: 'speed of the trace',
};
