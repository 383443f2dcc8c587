import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, type Clock } from '@guildhall/common';
import { HubServer } from '../../../../test/fakes/hub-server.ts';
import { PARTIAL_DIR } from '../hub/download.ts';
import { chooseEndpoint } from '../hub/endpoint.ts';
import { ModelStore } from '../hub/model-store.ts';
import { PullProgress } from '../hub/pull-progress.ts';
import { pull, type PullOptions, type PullResult } from '../hub/pull.ts';
import { parseRepoSpec } from '../hub/repo-spec.ts';
import type { PullSelection } from '../hub/selection.ts';
import { Progress } from '../ui/progress.ts';

export const WHOLE: PullSelection = { whole: true, dense: false, layers: null, experts: null, shard: null };

/** A hub, a home of its own, and a clock whose pauses are short and recorded. */
export class PullRig {
  readonly hub = new HubServer();
  readonly home = mkdtempSync(join(tmpdir(), 'guildhall-pull-'));
  readonly store = new ModelStore({ GUILDHALL_HOME: this.home });
  /** Pauses that were asked for, milliseconds. */
  readonly pauses: number[] = [];
  readonly clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) => {
      this.pauses.push(ms);
      return systemClock.sleep(Math.min(ms, 2), signal);
    },
  };

  /** Resolves when the half-done files of a model hold this many bytes. */
  async partialBytes(repo: string, bytes: number): Promise<void> {
    const models = join(this.home, 'models', repo.replace('/', '--'));
    for (;;) {
      const commits = existsSync(models) ? readdirSync(models).map((name) => join(models, name, PARTIAL_DIR)) : [];
      const files = commits.filter(existsSync).flatMap((dir) => readdirSync(dir).map((name) => join(dir, name)));
      const sizes = files.map((path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0);
      if (sizes.reduce((sum, size) => sum + size, 0) >= bytes) return;
      await systemClock.sleep(10);
    }
  }

  async start(): Promise<void> {
    await this.hub.start();
  }

  async stop(): Promise<void> {
    await this.hub.stop();
    rmSync(this.home, { recursive: true, force: true });
  }

  pull(spec: string, options: Partial<PullOptions> & { token?: string } = {}): Promise<PullResult> {
    const { token = '', ...rest } = options;
    return pull({
      spec: parseRepoSpec(spec),
      endpoint: rest.endpoint ?? chooseEndpoint(this.hub.url, { HF_TOKEN: token }),
      selection: WHOLE,
      store: this.store,
      dir: null,
      jobs: 4,
      all: false,
      verify: false,
      sha256: null,
      env: {},
      progress: new PullProgress(new Progress({ quiet: true }), this.clock),
      clock: this.clock,
      signal: new AbortController().signal,
      ...rest,
    });
  }
}

/** Bytes that differ from file to file and from place to place. */
export function someBytes(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
