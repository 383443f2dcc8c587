import {
  authMetadata,
  channelCredentials,
  channelOptions,
  errorMessage,
  type Logger,
  type TlsConfig,
} from '@guildhall/common';
import { router } from '@guildhall/proto';

export interface RouterDrainsOptions {
  tls: TlsConfig;
  clusterToken: string | null;
  logger: Logger;
  /** Called when a drain's state changed. */
  onChange: () => void;
}

/** How far the drain of a router is. `failed`: the call broke; it is made again when asked for again. */
export type RouterDrainState = 'running' | 'done' | 'failed';

interface Running {
  incarnation: bigint;
  state: RouterDrainState;
  progress: router.DrainProgress | null;
  cancel: () => void;
}

/** Calls to routers that are to move their streams. A second call to the same router joins the drain that is under way there. */
export class RouterDrains {
  readonly #o: RouterDrainsOptions;
  readonly #running = new Map<string, Running>();

  constructor(options: RouterDrainsOptions) {
    this.#o = options;
  }

  /** Asks the router to drain unless this was done; how far it is. */
  ensure(member: { id: string; incarnation: bigint; address: string }): RouterDrainState {
    const known = this.#running.get(member.id);
    if (known !== undefined && known.incarnation === member.incarnation && known.state !== 'failed') return known.state;
    known?.cancel();
    this.#begin(member);
    return 'running';
  }

  /** For people: what is left there. */
  describe(id: string): string {
    const progress = this.#running.get(id)?.progress ?? null;
    if (progress === null) return 'asked';
    const { running, waiting, parked, moved } = progress;
    return `${running} running, ${waiting} waiting, ${parked} parked, ${moved} moved`;
  }

  /** Forgets all but these; what runs in the routers goes on. */
  keep(ids: ReadonlySet<string>): void {
    for (const [id, { cancel }] of this.#running) {
      if (ids.has(id)) continue;
      cancel();
      this.#running.delete(id);
    }
  }

  close(): void {
    this.keep(new Set());
  }

  #begin({ id, incarnation, address }: { id: string; incarnation: bigint; address: string }): void {
    const { tls, clusterToken, logger } = this.#o;
    const client = new router.RouterClient(
      address,
      channelCredentials(tls),
      channelOptions({ maxMessageBytes: 1 << 20 }),
    );
    const call = client.drain({ limitMs: 0 }, authMetadata({ clusterToken }));
    const entry: Running = { incarnation, state: 'running', progress: null, cancel: () => call.cancel() };
    this.#running.set(id, entry);
    const end = (state: RouterDrainState): void => {
      client.close();
      if (entry.state !== 'running') return;
      entry.state = state;
      this.#o.onChange();
    };
    call.on('data', (progress: router.DrainProgress) => (entry.progress = progress));
    call.on('end', () => end(isEmpty(entry.progress) ? 'done' : 'failed'));
    call.on('error', (err) => {
      logger.debug({ router: id, reason: errorMessage(err) }, 'the call to drain a router ended early');
      end('failed');
    });
  }
}

function isEmpty(progress: router.DrainProgress | null): boolean {
  return progress !== null && progress.running + progress.waiting + progress.parked === 0;
}
