import { type Clock, errorMessage, fail, type Logger, type Metrics, Poller } from '@guildhall/common';
import type { ApiClient } from './lines/api-client.ts';
import { checkInput } from './lines/check-input.ts';
import { readLines } from './lines/line-reader.ts';
import { forEachAtMost } from './lines/pool.ts';
import { isProblem, parseRequestLine, type RequestLine } from './lines/request-line.ts';
import { halfOf, partsOf, Results } from './lines/results.ts';
import { type Batch, type BatchStatus, type BatchStore, ENDED } from './store/batch-store.ts';
import type { BlobStore } from './store/blob-store.ts';
import type { FileRecord, FileStore } from './store/file-store.ts';
import { newFileId } from './ids.ts';

export interface BatchRunDeps {
  batches: BatchStore;
  files: FileStore;
  blobs: BlobStore;
  api: ApiClient;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  concurrency: number;
  maxLines: number;
  maxLineBytes: number;
}

/** How a turn at a batch ended: it is over, its time was up, or another process owns it now. */
export type TurnEnd = 'over' | 'paused' | 'lost';

/** Results are stored, and the batch is looked at, at least this often. */
const BEAT_MS = 1000;
const RUNNING: readonly BatchStatus[] = ['validating', 'in_progress', 'cancelling'];
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

interface NumberedLine {
  number: number;
  line: RequestLine;
}

/** One process's turn at one batch. Everything that it needs to go on elsewhere is in Redis and in the store. */
export class BatchRun {
  readonly #d: BatchRunDeps;
  readonly #id: string;
  readonly #owner: string;
  /** Aborts lines on their way. */
  readonly #stop = new AbortController();

  /** `owner` is unique to this turn. */
  constructor(deps: BatchRunDeps, id: string, owner: string) {
    this.#d = deps;
    this.#id = id;
    this.#owner = owner;
  }

  /** Ends the lines that are on their way. */
  abort(): void {
    this.#stop.abort(fail('cancelled', 'the turn at the batch ends'));
  }

  /** Takes the batch and works on it until it is over or `pause` aborts. */
  async turn(pause: AbortSignal): Promise<TurnEnd> {
    try {
      return await this.#work(pause);
    } catch (err) {
      // Whoever has taken it over may have removed what this turn was about to write.
      if (!(await this.#d.batches.owns(this.#id, this.#owner))) return 'lost';
      throw err;
    }
  }

  async #work(pause: AbortSignal): Promise<TurnEnd> {
    const status = await this.#d.batches.claim(this.#id, this.#owner);
    const batch = status === null ? null : await this.#d.batches.find(this.#id);
    if (batch === null || ENDED.has(batch.status)) return 'over';
    const input = await this.#input(batch);
    if (input === null) return await this.#fail(batch, [problem('input_file_missing', 'the input file is gone')]);
    if (batch.status === 'validating') {
      const refused = await this.#validate(batch, input);
      if (refused !== null) return refused;
    }
    if (batch.status !== 'finalizing') {
      const end = await this.#runLines(batch, input, pause);
      if (end !== null) return end;
    }
    return await this.#finalise();
  }

  async #input(batch: Batch): Promise<FileRecord | null> {
    try {
      return await this.#d.files.get(batch.tenant, batch.inputFileId);
    } catch {
      return null;
    }
  }

  /** Null when the file is right and lines may run. */
  async #validate(batch: Batch, input: FileRecord): Promise<TurnEnd | null> {
    const { files, batches, maxLines, maxLineBytes } = this.#d;
    const { endpoint } = batch;
    let checked;
    try {
      checked = await checkInput(files.read(input), { endpoint, maxLines, maxLineBytes });
    } catch (err) {
      return await this.#fail(batch, [problem('invalid_file', errorMessage(err))]);
    }
    if (checked.problems.length > 0) return await this.#fail(batch, checked.problems);
    const fields = { total: checked.total };
    const moved = await batches.advance(this.#id, this.#owner, ['validating'], 'in_progress', fields);
    // Cancelled meanwhile: the lines are passed over, and counted.
    if (!moved) await batches.advance(this.#id, this.#owner, ['cancelling'], 'cancelling', fields);
    return null;
  }

  async #fail(
    batch: Batch,
    problems: readonly { code: string; message: string; param: string; line: number }[],
  ): Promise<TurnEnd> {
    const { batches, metrics, logger } = this.#d;
    const fields = { errors: JSON.stringify(problems) };
    if (!(await batches.advance(this.#id, this.#owner, RUNNING, 'failed', fields))) return 'lost';
    await this.#forgetParts();
    metrics.count('guildhall_batches_total', { status: 'failed' });
    logger.info({ batch: batch.id, problems: problems.length }, 'batch refused');
    return 'over';
  }

  /** Runs the lines that are not done. Null when none is left to run, because of a cancellation or the end of the window, too. */
  async #runLines(batch: Batch, input: FileRecord, pause: AbortSignal): Promise<TurnEnd | null> {
    const { batches, blobs, clock, concurrency } = this.#d;
    const done = await batches.done(this.#id);
    const results = new Results({
      batchId: this.#id,
      owner: this.#owner,
      blobs,
      commit: (segment) => batches.commit(this.#id, this.#owner, segment),
    });
    const beat = new Poller(clock, BEAT_MS, () => this.#beat(batch, results));
    await beat.start();
    try {
      const lines = this.#linesToRun(batch, input, done.has, pause);
      await forEachAtMost(lines, concurrency, (line) => this.#runLine(batch, line, results));
    } finally {
      await beat.stop();
      await results.flush();
    }
    if (results.lost) return 'lost';
    return pause.aborted ? 'paused' : await this.#expireRest(batch, input, results);
  }

  /** Stores what there is, and ends lines on their way when the batch is cancelled, out of time, or somebody else's. */
  async #beat(batch: Batch, results: Results): Promise<void> {
    const { batches, clock, logger } = this.#d;
    try {
      await results.flush();
      const now = await batches.find(this.#id);
      if (results.lost || now === null || now.status === 'cancelling' || batch.expiresMs <= clock.nowMs()) this.abort();
    } catch (err) {
      logger.warn({ batch: this.#id, reason: errorMessage(err) }, 'results could not be stored');
      this.abort();
    }
  }

  async *#linesToRun(
    batch: Batch,
    input: FileRecord,
    done: (line: number) => boolean,
    pause: AbortSignal,
  ): AsyncGenerator<NumberedLine> {
    const { files, maxLineBytes } = this.#d;
    for await (const { number, text } of readLines(files.read(input), maxLineBytes)) {
      if (pause.aborted || this.#stop.signal.aborted) return;
      if (done(number) || text === null) continue;
      const line = parseRequestLine(text, batch.endpoint);
      if (!isProblem(line)) yield { number, line };
    }
  }

  async #runLine(batch: Batch, { number, line }: NumberedLine, results: Results): Promise<void> {
    const { api, clock, metrics } = this.#d;
    const startMs = clock.monotonicMs();
    try {
      const answer = await api.send(batch.endpoint, line.body, batch.tenant, this.#stop.signal);
      await results.add({ number, customId: line.custom_id, answer, error: null });
      metrics.count('guildhall_batch_lines_total', { outcome: answer.status < 400 ? 'completed' : 'failed' });
      metrics.observe('guildhall_batch_line_seconds', (clock.monotonicMs() - startMs) / 1000);
    } catch (err) {
      // Not done: another turn runs it, or it expires.
      if (!this.#stop.signal.aborted) throw err;
    }
  }

  /** Lines for which the window was too short fail, each with a reason. */
  async #expireRest(batch: Batch, input: FileRecord, results: Results): Promise<TurnEnd | null> {
    const { batches, clock, metrics } = this.#d;
    const now = await batches.find(this.#id);
    if (now === null) return 'lost';
    if (now.status !== 'cancelling' && batch.expiresMs <= clock.nowMs()) {
      const fields = { '?end': 'expired' };
      if (!(await batches.advance(this.#id, this.#owner, ['in_progress'], 'in_progress', fields))) return 'lost';
      const done = await batches.done(this.#id);
      const error = { code: 'batch_expired', message: 'the request was not run before the window of the batch ended' };
      for await (const { number, customId } of this.#names(batch, input)) {
        if (done.has(number)) continue;
        await results.add({ number, customId, answer: null, error });
        metrics.count('guildhall_batch_lines_total', { outcome: 'expired' });
      }
      await results.flush();
      if (results.lost) return 'lost';
    }
    return null;
  }

  async *#names(batch: Batch, input: FileRecord): AsyncGenerator<{ number: number; customId: string }> {
    for await (const { number, text } of readLines(this.#d.files.read(input), this.#d.maxLineBytes)) {
      const line = text === null ? null : parseRequestLine(text, batch.endpoint);
      if (line !== null && !isProblem(line)) yield { number, customId: line.custom_id };
    }
  }

  /** Puts the parts together. Doing it again, after a crash in the middle, comes to the same files and the same status. */
  async #finalise(): Promise<TurnEnd> {
    const { batches } = this.#d;
    const before = await batches.find(this.#id);
    if (before === null) return 'lost';
    const from: readonly BatchStatus[] = ['in_progress', 'cancelling', 'finalizing'];
    const fields = { '?output': newFileId(), '?error': newFileId(), '?end': endOf(before) };
    if (!(await batches.advance(this.#id, this.#owner, from, 'finalizing', fields))) return 'lost';
    const batch = await batches.find(this.#id);
    if (batch === null || batch.end === null) return 'lost';
    const { segments } = await batches.done(this.#id);
    const output = await this.#putTogether(batch, segments, 'output');
    const error = await this.#putTogether(batch, segments, 'error');
    return await this.#end(batch.end, { output, error });
  }

  async #end(end: BatchStatus, files: { output: string; error: string }): Promise<TurnEnd> {
    const { batches, metrics, logger } = this.#d;
    if (!(await batches.advance(this.#id, this.#owner, ['finalizing'], end, files))) return 'lost';
    await this.#forgetParts();
    metrics.count('guildhall_batches_total', { status: end });
    logger.info({ batch: this.#id, end }, 'batch over');
    return 'over';
  }

  async #forgetParts(): Promise<void> {
    await this.#d.batches.forgetLines(this.#id);
    await this.#d.blobs.removeAll(partsOf(this.#id));
  }

  /** Id of the file of all results of a kind; '' when there are none. */
  async #putTogether(batch: Batch, segments: readonly string[], kind: 'output' | 'error'): Promise<string> {
    const { files } = this.#d;
    const id = kind === 'output' ? batch.outputFileId : batch.errorFileId;
    const count = kind === 'output' ? batch.completed : batch.failed;
    if (count === 0) return '';
    const stored = await files.store(this.#parts(segments, kind), id, NO_LIMIT);
    const filename = `${batch.id}_${kind}.jsonl`;
    await files.add(stored, { tenant: batch.tenant, filename, purpose: 'batch_output', ttlMs: null });
    return id;
  }

  async *#parts(segments: readonly string[], kind: 'output' | 'error'): AsyncGenerator<Uint8Array> {
    for (const name of segments) {
      const half = halfOf(this.#id, name, kind);
      if (half !== null) yield* this.#d.blobs.read(half);
    }
  }
}

/** What a batch comes to whose lines are no longer run. */
function endOf({ times }: Batch): BatchStatus {
  return times.cancelling === undefined ? 'completed' : 'cancelled';
}

function problem(code: string, message: string): { code: string; message: string; param: string; line: number } {
  return { code, message, param: 'input_file_id', line: 0 };
}
