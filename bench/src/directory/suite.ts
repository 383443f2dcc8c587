import { resolve } from 'node:path';
import { PageNames } from '@guildhall/common';
import { Tokenizer } from '@guildhall/model/tokenizer';
import { makeRow } from '../report.ts';
import type { BenchContext, Suite } from '../suite.ts';
import { DirectoryRig, PAGES, type Timing } from './rig.ts';

const HOLDERS = [1, 2, 4, 8];
const DEPTHS = { none: 0, half: PAGES / 2, full: PAGES } as const;
/** Share of a request's time that may be spent in Redis. */
const SHARE = 0.01;
const PAGE_TOKENS = 64;
const LEASE_MS = 60_000;

/** The directory of pages in Redis: what its calls cost, and what share of a request that is. */
export const directorySuite: Suite = {
  name: 'directory',
  about: 'lookups, publications, evictions and leases of 4,096-page prompts in Redis, and their share of a request',
  async run(context) {
    const rig = await DirectoryRig.start();
    try {
      for (const [i, holders] of HOLDERS.entries()) {
        while (rig.owners.length < holders) await rig.addHolder();
        context.progress.update(`lookups with ${holders} holders`, i / (HOLDERS.length + 2));
        await lookups(context, rig, holders);
      }
      context.progress.update('changes', HOLDERS.length / (HOLDERS.length + 2));
      await changes(context, rig);
      await shares(context, rig);
    } finally {
      await rig.stop();
    }
  },
};

const LOOKUP = { stateless: false, timeoutMs: 60_000 };

async function lookups(context: BenchContext, rig: DirectoryRig, holders: number): Promise<void> {
  for (const [depth, hits] of Object.entries(DEPTHS)) {
    const name = `directory/lookup/${holders}-holders/${depth}`;
    if (!context.wants(name)) continue;
    const prompt = rig.promptWith(hits);
    const timings = await repeat(context, () => rig.time(() => rig.directory.lookup(prompt, LOOKUP)));
    addRate(context, name, 'lookups/s', timings, `${hits} of ${PAGES} pages found in each of ${holders} holders`);
  }
}

async function changes(context: BenchContext, rig: DirectoryRig): Promise<void> {
  const [owner] = rig.owners;
  if (owner === undefined) return;
  const { directory, entries } = rig;
  const some = entries.slice(0, 16);
  const evict = async (): Promise<unknown> => await directory.evict(owner, entries);
  const restore = async (): Promise<void> => await rig.publish(owner, entries);
  const lease = async (): Promise<unknown> => await directory.lease(owner.router, entries, LEASE_MS);
  const leaseAndRelease = async (): Promise<unknown> =>
    await directory.release(await directory.lease(owner.router, entries, LEASE_MS));
  const cases: [string, string, () => Promise<unknown>, (() => Promise<unknown>)?][] = [
    ['publish/4096', 'publications/s', restore, evict],
    ['publish/16', 'publications/s', () => rig.publish(owner, some)],
    ['renew', 'renewals/s', () => directory.renew(owner, '0')],
    ['evict/4096', 'evictions/s', evict, restore],
    ['evict/16', 'evictions/s', () => directory.evict(owner, some), () => rig.publish(owner, some)],
    ['lease/4096', 'leases/s', leaseAndRelease],
  ];
  await restore();
  for (const [what, unit, work, prepare] of cases) {
    const name = `directory/${what}`;
    if (!context.wants(name)) continue;
    const timings = await repeat(context, () => rig.time(work, prepare));
    addRate(context, name, unit, timings, NOTES[what] ?? '');
  }
  await restore();
  const refused = 'directory/evict-leased/4096';
  if (context.wants(refused)) {
    await lease();
    addRate(context, refused, 'evictions/s', await repeat(context, () => rig.time(evict)), NOTES['refused'] ?? '');
  }
}

const NOTES: Record<string, string> = {
  'publish/4096': 'all pages of a prompt, new to Redis, in 4 calls',
  'publish/16': 'what a flush of 0.1 to 0.5 s holds; entries replaced',
  renew: 'no change',
  'evict/4096': 'nothing leased, 4 calls',
  'evict/16': 'nothing leased',
  'lease/4096': 'leased in 4 calls and released in 1',
  refused: 'all leased, all refused, 4 calls',
};

/** What the calls of a request cost, beside the least that a request with such a prompt takes. */
async function shares(context: BenchContext, rig: DirectoryRig): Promise<void> {
  const names = ['hit', 'pull', 'miss'].map((kind) => `directory/request-${kind}`);
  if (!names.some((name) => context.wants(name))) return;
  const [owner] = rig.owners;
  if (owner === undefined) return;
  const { directory, entries } = rig;
  const known = rig.promptWith(PAGES);
  const unknown = rig.promptWith(0);
  const calls: Record<string, [() => Promise<unknown>, (() => Promise<unknown>)?]> = {
    hit: [() => directory.lookup(known, LOOKUP)],
    pull: [
      async () => {
        await directory.lookup(known, LOOKUP);
        await directory.release(await directory.lease(owner.router, entries, LEASE_MS));
      },
    ],
    miss: [
      async () => {
        await directory.lookup(unknown, LOOKUP);
        await rig.publish(owner, entries);
      },
      () => directory.evict(owner, entries),
    ],
  };
  const leastMs = await leastOfRequest(context);
  for (const [kind, [work, prepare]] of Object.entries(calls)) {
    const name = `directory/request-${kind}`;
    if (!context.wants(name)) continue;
    const timings = await repeat(context, () => rig.time(work, prepare));
    context.add(
      makeRow({
        name,
        unit: 'ms',
        values: timings.map(({ clientMs }) => clientMs),
        better: 'less',
        peer: {
          name: '1 % of tokenizing the prompt and naming its pages, same run',
          values: leastMs.map((ms) => ms * SHARE),
        },
        target: 1,
        note: `${SHARES[kind]}; 8 holders have all; the rest of a request comes on top of the peer`,
      }),
    );
  }
}

const SHARES: Record<string, string> = {
  hit: 'one lookup',
  pull: 'lookup, lease and release',
  miss: 'lookup and publication of 4,096 pages, which nobody waits for',
};

/**
 * Milliseconds of two things that every request with a prompt of 262,144 tokens does: tokenizing (with the tokenizer of
 * tiny) and naming its pages. Restoring, prefill of the rest and decoding come on top.
 */
async function leastOfRequest(context: BenchContext): Promise<number[]> {
  const tokenizer = Tokenizer.load(resolve(context.options.root, 'models', 'tiny'));
  const paragraph = 'The guild keeps a ledger of every page that its members have written, and of who holds it. ';
  const each = (await tokenizer.encode(paragraph)).length;
  // Tokens that join two paragraphs make the text a little shorter than the sum.
  const text = paragraph.repeat(Math.ceil((1.1 * PAGES * PAGE_TOKENS) / each));
  const times: number[] = [];
  for (let run = 0; run <= context.options.runs; run++) {
    const startMs = performance.now();
    const ids = (await tokenizer.encode(text)).subarray(0, PAGES * PAGE_TOKENS);
    const space = { fingerprint: 'f', numericsId: 'n', pageTokens: PAGE_TOKENS, salt: String(run), adapter: '' };
    new PageNames(space, ids).first(PAGES);
    // The first round warms everything.
    if (run > 0) times.push(performance.now() - startMs);
  }
  return times;
}

async function repeat(context: BenchContext, measure: () => Promise<Timing>): Promise<Timing[]> {
  await measure();
  const timings: Timing[] = [];
  for (let run = 0; run < context.options.runs; run++) timings.push(await measure());
  return timings;
}

/** Calls one after the other; the ceiling is what Redis could do if it were never idle. */
function addRate(context: BenchContext, name: string, unit: string, timings: readonly Timing[], note: string): void {
  const rates = timings.map(({ clientMs }) => 1000 / clientMs);
  context.add(
    makeRow({
      name,
      unit,
      values: rates,
      limit: { name: 'Redis never idle', unit, used: rates, ceilings: timings.map(({ redisMs }) => 1000 / redisMs) },
      note,
    }),
  );
}
