import type { EngineObserver } from '../engine.ts';

/** The engine's events as spans of the sequences that are traced. */
export const engineTraces: EngineObserver = {
  step: () => undefined,
  preempted: (seq, how) => seq.trace?.preempted(how),
  admitted: (seq) => seq.trace?.admitted(seq.prefix?.cachedTokens ?? 0),
  token: (seq) => seq.trace?.enter('decode'),
  finished(seq, reason) {
    seq.trace?.finished({
      reason,
      promptTokens: seq.numPrompt,
      completionTokens: seq.numGenerated,
      cachedTokens: seq.prefix?.cachedTokens ?? 0,
    });
  },
  failed: (seq, error) => seq.trace?.failed(error),
};

/** Tells both. */
export function bothObservers(a: EngineObserver, b: EngineObserver): EngineObserver {
  return {
    step(...args) {
      a.step(...args);
      b.step(...args);
    },
    preempted(...args) {
      a.preempted(...args);
      b.preempted(...args);
    },
    admitted(...args) {
      a.admitted(...args);
      b.admitted(...args);
    },
    token(...args) {
      a.token(...args);
      b.token(...args);
    },
    finished(...args) {
      a.finished(...args);
      b.finished(...args);
    },
    failed(...args) {
      a.failed(...args);
      b.failed(...args);
    },
  };
}
