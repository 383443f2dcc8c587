import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, errorMessage, fail, type Logger, type MemberView, type PlacementView } from '@guildhall/common';
import {
  Checkpoint,
  EXPERTS_DIR,
  isSmallFileName,
  MAX_SMALL_FILE_BYTES,
  OUTLINE_SUFFIX,
} from '@guildhall/model/weights';
import { control, type weights } from '@guildhall/proto';
import { describePeer, fetchFile, type PeerCalls } from './peer-calls.ts';
import type { Peers } from './peers.ts';
import { transferFault } from './wire.ts';

export interface BootstrapOptions {
  /** Folder that becomes a checkpoint without weights; made when it is missing. */
  dir: string;
  cluster: { members: Pick<MemberView, 'members'>; placements: Pick<PlacementView, 'current'> };
  peers: Peers;
  clock: Clock;
  logger: Logger;
  signal: AbortSignal;
}

const CONFIG = 'config.json';
const DRAFT_PREFIX = '.draft-';
/** A draft that is older than this was left by a process that died. */
const DRAFT_MS = 3_600_000;
const RETRY_MS = 1000;
const MAX_FILES = 11_000;
const MAX_TOTAL_BYTES = 4 * 2 ** 30;

/** A worker that can be asked for its checkpoint. */
interface Supplier {
  id: string;
  address: string;
  fingerprint: string;
}

/**
 * Sees to it that `dir` holds the configuration, tokenizer and outlines of the checkpoint that the cluster serves: what a
 * worker must have to join before it has any weights. What is there already is kept; else it comes from a worker that
 * serves weights, and is compared with its checksums and with the fingerprint that it promised. Waits for such a worker.
 * Errors: `cancelled`; `config_invalid` where the folder cannot be written.
 */
export async function bootstrapCheckpoint(options: BootstrapOptions): Promise<void> {
  const { dir, logger, clock, signal } = options;
  makeFolder(dir, clock.nowMs());
  if (isOpenable(dir, logger)) return;
  let said = '';
  for (;;) {
    signal.throwIfAborted();
    let problem = 'no worker of the cluster serves weights yet';
    for (const supplier of suppliers(options)) {
      try {
        await fetchAll(options, supplier);
        logger.info({ worker: supplier.id, fingerprint: supplier.fingerprint, dir }, 'the model is known from a peer');
        return;
      } catch (err) {
        signal.throwIfAborted();
        problem = `${supplier.id}: ${errorMessage(err)}`;
      }
    }
    if (problem !== said) logger.warn({ reason: problem }, 'the model is not known yet; waiting for a peer');
    said = problem;
    await clock.sleep(RETRY_MS, signal);
  }
}

function makeFolder(dir: string, nowMs: number): void {
  try {
    mkdirSync(join(dir, EXPERTS_DIR), { recursive: true });
    for (const name of readdirSync(dir)) {
      const left = name.startsWith(DRAFT_PREFIX) && statSync(join(dir, name)).mtimeMs < nowMs - DRAFT_MS;
      if (left) rmSync(join(dir, name), { recursive: true, force: true });
    }
  } catch (err) {
    throw fail('config_invalid', `${dir}: cannot be written: ${errorMessage(err)}`, { field: 'model', cause: err });
  }
}

/** True where the folder holds a checkpoint. One that was damaged is fetched again; files of weights stay. */
function isOpenable(dir: string, logger: Logger): boolean {
  if (!existsSync(join(dir, CONFIG))) return false;
  try {
    Checkpoint.open(dir);
    return true;
  } catch (err) {
    logger.warn({ reason: errorMessage(err) }, 'the model in the folder is damaged; it is fetched again');
    return false;
  }
}

/** Workers that serve weights: those of the model in force first, then those of the model that most have. */
function suppliers({ cluster }: BootstrapOptions): Supplier[] {
  const found: Supplier[] = [];
  const counts = new Map<string, number>();
  for (const entry of cluster.members.members()) {
    if (entry.kind !== 'expert') continue;
    const member = tryDecode(() => control.Member.decode(entry.value));
    if (member?.servesWeights !== true) continue;
    const { modelFingerprint: fingerprint, address } = member;
    found.push({ id: entry.id, address, fingerprint });
    counts.set(fingerprint, (counts.get(fingerprint) ?? 0) + 1);
  }
  const placement = cluster.placements.current();
  const wanted = placement && tryDecode(() => control.Placement.decode(placement.bytes))?.modelFingerprint;
  const rank = ({ fingerprint }: Supplier): number =>
    fingerprint === wanted ? Infinity : (counts.get(fingerprint) ?? 0);
  return found.sort((a, b) => (rank(a) === rank(b) ? (a.id < b.id ? -1 : 1) : rank(b) - rank(a)));
}

function tryDecode<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch {
    return null;
  }
}

async function fetchAll(options: BootstrapOptions, { address, fingerprint }: Supplier): Promise<void> {
  const { dir, peers, signal } = options;
  const peer = peers.calls(address, { fingerprint, signal, paced: () => Promise.resolve() });
  const { files, modelFingerprint } = await describePeer(peer);
  if (modelFingerprint !== fingerprint) throw transferFault('corrupt', `it describes ${modelFingerprint.slice(0, 64)}`);
  checkList(files);
  const draft = join(dir, `${DRAFT_PREFIX}${randomUUID()}`);
  mkdirSync(draft);
  try {
    for (const file of files) await peers.patiently(signal, () => fetchInto(peer, draft, file));
    const found = Checkpoint.open(draft).fingerprint;
    if (found !== fingerprint) {
      throw transferFault('corrupt', `its files make the fingerprint ${found}, it promised ${fingerprint}`);
    }
    // The configuration comes last: where it is everything is.
    const names = files.map(({ name }) => name).filter((name) => name !== CONFIG);
    for (const name of [...names, CONFIG]) renameSync(join(draft, name), join(dir, name));
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

async function fetchInto(peer: PeerCalls, draft: string, { name, size, sha256 }: weights.WeightsFile): Promise<void> {
  writeFileSync(join(draft, name), await fetchFile(peer, { name, size: Number(size), sha256 }), { flush: true });
}

function checkList(files: readonly weights.WeightsFile[]): void {
  const names = new Set(files.map(({ name }) => name));
  const total = files.reduce((sum, { size }) => sum + Number(size), 0);
  const odd = files.find(({ name, size }) => !isSmallFileName(name) || size > BigInt(MAX_SMALL_FILE_BYTES));
  if (odd !== undefined)
    throw transferFault('corrupt', `a file ${JSON.stringify(odd.name.slice(0, 100))} of ${odd.size} bytes`);
  if (files.length > MAX_FILES || names.size !== files.length || total > MAX_TOTAL_BYTES) {
    throw transferFault('corrupt', `a list of ${files.length} files and ${total} bytes`);
  }
  const known = names.has(CONFIG) && [...names].some((name) => name.endsWith(OUTLINE_SUFFIX));
  if (!known) throw transferFault('corrupt', 'it lists no configuration or no outline');
}
