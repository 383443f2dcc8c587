import type { Clock } from '@guildhall/common';
import { watchParents } from './parent-watch.ts';

/** A wish to end. */
export interface StopRequest {
  requested: Promise<string>;
  isRequested(): boolean;
  dispose(): void;
}

/** Resolves on SIGINT, SIGTERM, SIGHUP or the end of the process that started us; a second signal exits at once. */
export function stopRequest(clock: Clock): StopRequest {
  let why: string | null = null;
  let resolveStop: (reason: string) => void = () => undefined;
  const requested = new Promise<string>((resolve) => {
    resolveStop = resolve;
  });
  const ask = (reason: string): void => {
    // npm passes a signal on that the terminal has already sent to the whole group: only a later one is a second wish.
    if (why !== null) {
      if (clock.monotonicMs() - askedAt > 1000) process.exit(130);
      return;
    }
    why = reason;
    askedAt = clock.monotonicMs();
    resolveStop(reason);
  };
  let askedAt = 0;
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const name of signals) process.on(name, ask);
  const parents = watchParents(clock, (pid) => ask(`process ${pid} ended`));
  return {
    requested,
    isRequested: () => why !== null,
    dispose: () => {
      parents.cancel();
      for (const name of signals) process.off(name, ask);
    },
  };
}
