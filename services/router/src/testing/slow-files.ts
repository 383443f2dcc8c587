import { type FileOps, nodeFiles } from '../kv/tiers/disk-folder.ts';

/** Files whose opening can be stopped and let go on. */
export function stoppableFiles(): { ops: FileOps; stop: () => void; go: () => void } {
  let gate: Promise<void> = Promise.resolve();
  let open = (): void => undefined;
  const ops: FileOps = {
    ...nodeFiles,
    open: (async (...args: Parameters<FileOps['open']>) => {
      await gate;
      return await nodeFiles.open(...args);
    }) as FileOps['open'],
  };
  return {
    ops,
    stop() {
      gate = new Promise((resolve) => {
        open = resolve;
      });
    },
    go: () => open(),
  };
}
