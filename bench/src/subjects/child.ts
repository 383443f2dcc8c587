import type { Request, SubjectEngine } from './protocol.ts';

/** Serves an engine to the harness that forked this process, one request at a time, until the channel closes. */
export function serveSubject(engine: SubjectEngine): void {
  process.on('message', (request: Request) => {
    void answer(engine, request).then((reply) => process.send?.(reply));
  });
  process.on('disconnect', () => process.exit(0));
}

async function answer(engine: SubjectEngine, request: Request): Promise<{ result: unknown } | { error: string }> {
  try {
    switch (request.call) {
      case 'load':
        return { result: await engine.load(request.spec) };
      case 'prepare':
        return { result: (await engine.prepare(request.work)) ?? null };
      case 'run':
        return { result: await engine.run(request.work) };
      case 'top':
        return { result: await engine.top(request.tokens) };
    }
  } catch (error) {
    return { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** Seconds that `work` takes. */
export async function seconds(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}
