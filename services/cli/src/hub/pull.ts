import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fail, lockFile, type Clock } from '@guildhall/common';
import { OUTLINE_SUFFIX } from '@guildhall/model/weights';
import { formatBytes } from '../ui/bytes.ts';
import { matchesChecksum } from './checksum.ts';
import { downloadFile, partialBytes, PARTIAL_DIR } from './download.ts';
import type { Endpoint } from './endpoint.ts';
import { HubClient, type HubFile } from './hub-client.ts';
import { isUntouched, newManifest, readManifest, writeManifest, type Manifest, type ManifestFile } from './manifest.ts';
import type { ModelStore } from './model-store.ts';
import { fetchOutline, SMALLEST_OUTLINED_BYTES } from './outlines.ts';
import type { PullProgress } from './pull-progress.ts';
import { isCommit, type RepoSpec } from './repo-spec.ts';
import { isKept, isWeights, selectWeights, type PullSelection } from './selection.ts';
import { S3Source } from './s3-source.ts';
import type { FileSource } from './source.ts';
import { inParallel } from './parallel.ts';

export interface PullOptions {
  spec: RepoSpec;
  /** Hash that the model must have, see PullResult.sha256; null for any. */
  sha256: string | null;
  env: Record<string, string | undefined>;
  endpoint: Endpoint;
  selection: PullSelection;
  store: ModelStore;
  /** Folder for the files, or null for the store. */
  dir: string | null;
  /** Files that come at the same time. */
  jobs: number;
  /** Every file of the commit, not only those that a model is served from. */
  all: boolean;
  /** Hash again what is already here. */
  verify: boolean;
  progress: PullProgress;
  clock: Clock;
  signal: AbortSignal;
}

export interface PullResult {
  repo: string;
  revision: string;
  commit: string;
  /**
   * Hash of everything that a model is served from: of SHA256SUMS in a bucket; for a hub, of the lines `algorithm:digest  path`,
   * sorted by path.
   */
  sha256: string;
  dir: string;
  /** Files that are here in full, sorted. */
  files: string[];
  /** Files of which only the outline is here. */
  outlined: string[];
  /** Bytes that came over the network. */
  downloadedBytes: number;
  /** Bytes of files that were here before. */
  reusedBytes: number;
}

const LOCK_NAME = '.guildhall-pull.lock';
/** Room that a pull leaves on the disk. */
const SPARE_BYTES = 64 << 20;

/**
 * Brings a model here, or the part of it that is wanted, checks every file, and records what is here. What is already
 * here stays; what an earlier pull left half done is finished.
 * @throws hub_denied, hub_not_found, hub_unavailable, hub_invalid, download_corrupt, disk_full, config_invalid,
 * checkpoint_invalid, cancelled (all of them leave a state that the next pull goes on from).
 */
export async function pull(options: PullOptions): Promise<PullResult> {
  const { spec, endpoint, store, progress, clock, signal } = options;
  const onRetry = (message: string): void => progress.say(message);
  if (spec.s3 !== undefined && options.dir === null)
    throw fail('config_invalid', `${spec.repo} needs --dir: only models of a hub are found again by name`, {
      field: 'dir',
    });
  const context = { clock, signal, onRetry };
  const client: FileSource =
    spec.s3 === undefined
      ? new HubClient({ ...context, endpoint }, spec.repo)
      : await S3Source.open(spec.s3, context, options.env);
  // A hash is a promise that nothing changed: when all is here the hub is not asked at all.
  const commit = isCommit(spec.revision) ? spec.revision : await client.commitOf(spec.revision);
  const dir = options.dir ?? store.commitDir(spec.repo, commit);
  mkdirSync(dir, { recursive: true });
  const onWait = ({ pid }: { pid: number }): void => progress.say(`waiting for another pull (process ${pid})`);
  const lock = await lockFile(join(dir, LOCK_NAME), { clock, signal, onWait });
  try {
    const result = await new Pull(options, client, commit, dir).run();
    if (options.dir === null && !isCommit(spec.revision)) store.writeRef(spec.repo, spec.revision, commit);
    return result;
  } finally {
    lock.release();
  }
}

class Pull {
  readonly #options: PullOptions;
  readonly #client: FileSource;
  readonly #commit: string;
  readonly #dir: string;
  #manifest: Manifest | null = null;
  #downloadedBytes = 0;
  #reusedBytes = 0;

  constructor(options: PullOptions, client: FileSource, commit: string, dir: string) {
    this.#options = options;
    this.#client = client;
    this.#commit = commit;
    this.#dir = dir;
  }

  async run(): Promise<PullResult> {
    const { selection, spec } = this.#options;
    const manifest = await this.#openManifest();
    this.#manifest = manifest;
    const sha256 = this.#refuseOther(manifest);
    await this.#bring(manifest.files.filter((file) => !isWeights(file.path)));
    const { whole, outlined } = selectWeights(this.#dir, manifest.files, selection);
    const small = outlined.filter((file) => file.size < SMALLEST_OUTLINED_BYTES);
    await this.#bring([...whole, ...small].map((file) => this.#entry(file)));
    await this.#bringOutlines(outlined.filter((file) => !small.includes(file)).map((file) => this.#entry(file)));
    this.#clean();
    const named = (state: string): string[] =>
      manifest.files
        .filter((file) => file.state === state)
        .map((file) => file.path)
        .sort();
    return {
      repo: spec.repo,
      revision: spec.revision,
      commit: this.#commit,
      sha256,
      dir: this.#dir,
      files: named('whole'),
      outlined: named('outline'),
      downloadedBytes: this.#downloadedBytes,
      reusedBytes: this.#reusedBytes,
    };
  }

  async #openManifest(): Promise<Manifest> {
    const { spec, all, endpoint } = this.#options;
    const old = readManifest(this.#dir);
    if (old !== null && (old.repo !== spec.repo || old.commit !== this.#commit)) {
      const message = `${this.#dir} holds ${old.repo} at ${old.commit}; give ${spec.repo}@${this.#commit} another --dir`;
      throw fail('config_invalid', message, { field: 'dir' });
    }
    if (old !== null && (old.all || !all)) return old;
    const listing = await this.#client.listFiles(this.#commit, (path) => all || isKept(path));
    if (listing.length === 0) throw fail('hub_invalid', `${spec.repo}@${this.#commit} holds no file of a model`);
    const facts = { repo: spec.repo, revision: spec.revision, commit: this.#commit, endpoint: endpoint.url.href, all };
    const manifest = newManifest(facts, listing);
    for (const file of manifest.files) {
      const known = old?.files.find((other) => other.path === file.path);
      if (known !== undefined) Object.assign(file, { state: known.state, mtimeMs: known.mtimeMs });
    }
    return manifest;
  }

  /** Throws `download_corrupt` where the files are not those that were pinned; returns their hash. */
  #refuseOther({ files }: Manifest): string {
    const { spec, sha256 } = this.#options;
    const found = spec.s3 === undefined ? listingHash(files.filter(({ path }) => isKept(path))) : this.#commit;
    if (sha256 === null || sha256 === found) return found;
    throw fail('download_corrupt', `${spec.repo} has sha256 ${found}, not ${sha256}: nothing was fetched`);
  }

  #entry(file: HubFile): ManifestFile {
    const entry = this.#manifest?.files.find((other) => other.path === file.path);
    if (entry === undefined) throw fail('internal', `${file.path} is not in the manifest`);
    return entry;
  }

  /** Makes files whole: those that are not here, or not what they were. */
  async #bring(files: ManifestFile[]): Promise<void> {
    const { jobs, progress } = this.#options;
    const missing: ManifestFile[] = [];
    for (const file of files) {
      if (await this.#isHere(file)) this.#reusedBytes += file.size;
      else missing.push(file);
    }
    this.#expectRoom(missing);
    for (const file of missing) progress.expect(file.size);
    await inParallel(missing, jobs, async (file) => {
      const before = partialBytes(this.#dir, file);
      const onBytes = (count: number): void => progress.add(count);
      await downloadFile(this.#client, this.#commit, file, { dir: this.#dir, onBytes });
      this.#downloadedBytes += file.size - before;
      this.#settle(file);
      if (file.size >= SMALLEST_OUTLINED_BYTES) progress.say(`${file.path}: ${formatBytes(file.size)}, checked`);
    });
  }

  async #isHere(file: ManifestFile): Promise<boolean> {
    const { verify, progress, signal } = this.#options;
    if (!verify && isUntouched(this.#dir, file)) return true;
    const path = join(this.#dir, file.path);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return false;
    const recorded = file.state === 'whole';
    if (stat.isFile() && stat.size === file.size) {
      progress.expect(file.size);
      if (await matchesChecksum(path, file, signal, (count) => progress.add(count))) {
        this.#settle(file);
        return true;
      }
    }
    if (recorded) progress.say(`${file.path} is not what was pulled; fetching it again`);
    // In the store every file is ours to replace; in a folder that somebody named, only those that a pull put there.
    else if (this.#options.dir !== null) {
      throw fail(
        'config_invalid',
        `${path} exists and is not the file of the repository: remove it, or give another --dir`,
        {
          field: 'dir',
        },
      );
    }
    return false;
  }

  #settle(file: ManifestFile): void {
    const { mtimeMs } = statSync(join(this.#dir, file.path));
    Object.assign(file, { state: 'whole', mtimeMs });
    rmSync(join(this.#dir, file.path + OUTLINE_SUFFIX), { force: true });
    this.#save();
  }

  async #bringOutlines(files: ManifestFile[]): Promise<void> {
    const { jobs, progress } = this.#options;
    const missing = files.filter((file) => !isUntouched(this.#dir, file) && !this.#hasOutline(file));
    if (missing.length > 0) progress.say(`fetching the headers of ${missing.length} files that are not wanted whole`);
    await inParallel(missing, jobs, async (file) => {
      this.#downloadedBytes += await fetchOutline(this.#client, this.#commit, file, this.#dir);
      Object.assign(file, { state: 'outline', mtimeMs: 0 });
      this.#save();
    });
  }

  #hasOutline(file: ManifestFile): boolean {
    const stat = statSync(join(this.#dir, file.path + OUTLINE_SUFFIX), { throwIfNoEntry: false });
    return file.state === 'outline' && stat !== undefined;
  }

  #expectRoom(missing: ManifestFile[]): void {
    const needed = missing.reduce((sum, file) => sum + file.size - partialBytes(this.#dir, file), 0);
    const { bavail, bsize } = statfsSync(this.#dir);
    const free = bavail * bsize;
    if (needed === 0 || needed + SPARE_BYTES <= free) return;
    const short = formatBytes(needed + SPARE_BYTES - free);
    const message = `${this.#dir}: ${formatBytes(needed)} are to come, ${formatBytes(free)} are free: free ${short} more`;
    throw fail('disk_full', message);
  }

  #save(): void {
    if (this.#manifest !== null) writeManifest(this.#dir, this.#manifest);
  }

  /** Removes what is left of files that were given up; with nothing left, their folder. */
  #clean(): void {
    this.#save();
    const partial = join(this.#dir, PARTIAL_DIR);
    const left = statSync(partial, { throwIfNoEntry: false }) === undefined ? [] : readdirSync(partial);
    if (left.length === 0) rmSync(partial, { recursive: true, force: true });
  }
}

function listingHash(files: readonly HubFile[]): string {
  const lines = files.map(({ path, checksum }) => `${checksum.algorithm}:${checksum.digest}  ${path}\n`);
  const byPath = lines.toSorted((a, b) => (a.slice(a.indexOf('  ')) < b.slice(b.indexOf('  ')) ? -1 : 1));
  return createHash('sha256').update(byPath.join('')).digest('hex');
}
