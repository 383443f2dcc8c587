import type { Cluster } from './cluster.ts';
import { type StreamedToken, type StreamRequest, streamTokens } from './stream.ts';

/** What streams gave while something was done to the cluster. */
export interface Disturbed {
  /** Tokens of each request, of every round. */
  rounds: StreamedToken[][][];
  /** Milliseconds between two tokens of a stream, over all streams, ascending. */
  gapsMs: number[];
}

/** Value below which a share of ascending numbers lies. */
export function quantile(ascending: readonly number[], share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(ascending.length * share))] ?? 0;
}

/** Streams all requests at once, again and again until `during` is over; it begins when every stream is running. */
export async function streamDuring(
  cluster: Cluster,
  requests: readonly StreamRequest[],
  during: () => Promise<void>,
): Promise<Disturbed> {
  const disturbed: Disturbed = { rounds: [], gapsMs: [] };
  let waiting = requests.length;
  const begun = Promise.withResolvers<void>();
  const done = begun.promise.then(during);
  let over = false;
  const ended = done.finally(() => (over = true));
  // A failure is thrown where it is awaited, below.
  ended.catch(() => undefined);
  const run = async (request: StreamRequest, first: boolean): Promise<StreamedToken[]> => {
    const started = (): void => {
      waiting -= 1;
      if (waiting === 0) begun.resolve();
    };
    return streamTokens(cluster, request, first ? { afterTokens: 5, run: started } : null, disturbed.gapsMs);
  };
  do {
    const first = disturbed.rounds.length === 0;
    disturbed.rounds.push(await Promise.all(requests.map((request) => run(request, first))));
  } while (!over);
  await ended;
  disturbed.gapsMs.sort((a, b) => a - b);
  return disturbed;
}
