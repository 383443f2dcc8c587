import type { FileHandle } from 'node:fs/promises';
import type { Clock, PageName } from '@guildhall/common';
import type { Blob } from '../blob.ts';
import type { Checksum } from './blob-store.ts';
import type { FileOps } from './disk-folder.ts';
import type { Gate } from './disk-lane.ts';
import {
  type FileKind,
  type FileSpace,
  type PageFileInfo,
  type Parsed,
  readPageFile,
  readPageHeader,
} from './page-file.ts';
import { ReadCost } from './read-cost.ts';

/** Why a file could not be used; `keep`: the fault lies with the process and not with the file. */
export interface BadRead {
  fault: 'corrupt' | 'truncated' | 'disk_error';
  detail: string;
  keep: boolean;
}

export interface DiskReaderOptions {
  files: FileOps;
  space: FileSpace;
  checksum: Checksum;
  clock: Clock;
  gate: Gate;
}

const TOUCH_EVERY_MS = 60_000;
/** Errors that another moment would not give. */
const PASSING = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);

/** Reads files of the tier, a few at a time, and knows how fast that is. */
export class DiskReader {
  readonly #o: DiskReaderOptions;
  readonly #cost = new ReadCost();

  constructor(options: DiskReaderOptions) {
    this.#o = options;
  }

  /** Time that reading a blob of `size` bytes takes, by what was read so far. */
  predictMs(size: number): number {
    return this.#cost.predictMs(size);
  }

  /** The whole file, checked to be the one that is expected. */
  read(
    file: { path: string; mtimeMs: number },
    expected: { kind: FileKind; name: PageName },
  ): Promise<(PageFileInfo & Pick<Blob, 'data'>) | BadRead> {
    const { clock, space, checksum } = this.#o;
    return this.#open(file.path, expected, async (handle) => {
      const startMs = clock.monotonicMs();
      const result = await readPageFile(handle, space, checksum);
      if ('value' in result) this.#cost.observe(result.value.size, clock.monotonicMs() - startMs);
      await this.#markUsed(handle, file);
      return result;
    });
  }

  /** The header only. */
  readHeader(file: { path: string }, expected: { kind: FileKind; name: PageName }): Promise<PageFileInfo | BadRead> {
    const { space, checksum } = this.#o;
    return this.#open(file.path, expected, (handle) => readPageHeader(handle, space, checksum));
  }

  #open<T extends PageFileInfo>(
    path: string,
    expected: { kind: FileKind; name: PageName },
    work: (handle: FileHandle) => Promise<Parsed<T>>,
  ): Promise<T | BadRead> {
    return this.#o.gate.run(async () => {
      let handle: FileHandle | null = null;
      try {
        handle = await this.#o.files.open(path, 'r');
        const result = await work(handle);
        if ('fault' in result) return { ...result, keep: false };
        const { kind, name } = result.value;
        if (kind === expected.kind && name === expected.name) return result.value;
        return { fault: 'corrupt', detail: 'it holds another blob', keep: false };
      } catch (err) {
        const { code = '' } = err as NodeJS.ErrnoException;
        return { fault: 'disk_error', detail: String(err), keep: PASSING.has(code) };
      } finally {
        await handle?.close().catch(() => undefined);
      }
    });
  }

  /** The time of the file says after a restart how recently it was used. */
  async #markUsed(handle: FileHandle, file: { mtimeMs: number }): Promise<void> {
    const nowMs = this.#o.clock.nowMs();
    if (nowMs - file.mtimeMs < TOUCH_EVERY_MS) return;
    file.mtimeMs = nowMs;
    // A disk that is read-only is no fault here.
    await handle.utimes(nowMs / 1000, nowMs / 1000).catch(() => undefined);
  }
}
