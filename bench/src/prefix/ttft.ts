import { Cluster, type RouterClient } from '@guildhall/test/harness';
import { makeRow, missingRow } from '../report.ts';
import { tokensAt } from '../subjects/protocol.ts';
import type { BenchContext } from '../suite.ts';
import { ANSWER_TOKENS, pagesOf, type Subject, TAIL_TOKENS } from './flags.ts';
import { streamCompletion } from './http.ts';

/** Ways to a first token, in the order of the report. */
const KINDS = ['cold', 'hit', 'http-hit', 'pull', 'host', 'disk'] as const;
type Kind = (typeof KINDS)[number];

/** How much faster than computing each must be. */
const TARGETS: Record<Kind, number | null> = { cold: null, hit: 50, pull: 1, host: 1, disk: 1, 'http-hit': null };

const ABOUT: Record<Kind, string> = {
  cold: 'nothing of it is cached',
  hit: 'the prefix is in the pool of the same router',
  pull: 'the prefix comes from another router, which holds it',
  host: 'the prefix comes from host memory, after another one has taken its pages',
  disk: 'the prefix comes from disk, after the router was started again',
  'http-hit': 'in the pool of both routers, through gateway and HTTP with a prompt of token ids',
};

/** Milliseconds to the first token; `cached` is what the router says it did not compute. */
interface Timed {
  ms: number;
  cached: number;
}

/** Two routers with local experts behind a gateway; one request at a time. */
class PrefixRig {
  readonly cluster: Cluster;
  readonly #subject: Subject;
  #tails = 0;

  constructor(cluster: Cluster, subject: Subject) {
    this.cluster = cluster;
    this.#subject = subject;
  }

  static async start(subject: Subject, threads: number): Promise<PrefixRig> {
    const cluster = await Cluster.start({
      model: subject.model,
      weights: subject.weights as never,
      workers: 0,
      routers: 2,
      threads,
      routerArgs: [
        '--experts=local',
        `--num-pages=${pagesOf(subject.prefixTokens)}`,
        '--max-running=4',
        '--kv-host-memory=4GiB',
        '--kv-disk-limit=8GiB',
      ],
      routerArgsOf: (_, dir) => ['--kv-disk', dir],
      // A busy machine must not turn a hit into a choice by load.
      gatewayArgs: ['--routing', 'kv', '--routing-timeout-ms', '1000'],
    });
    return new PrefixRig(cluster, subject);
  }

  /** The prefix of a number, and a tail that no other prompt has. */
  prompt(prefix: number): number[] {
    const { vocab, prefixTokens } = this.#subject;
    this.#tails += 1;
    const shared = tokensAt(1000 + prefix, 0, prefixTokens, vocab);
    return [...shared, ...tokensAt(100_000 + this.#tails, 0, TAIL_TOKENS, vocab)];
  }

  async direct(router: number, prefix: number, holder: number | null = null): Promise<Timed> {
    const client = await this.cluster.routerClient(router);
    const hint = holder === null ? {} : { holder: await this.#holder(holder) };
    const answer = await client.generate({
      promptIds: this.prompt(prefix),
      stop: { maxTokens: ANSWER_TOKENS },
      ...hint,
    });
    return { ms: (answer.tokenTimes[0] ?? NaN) - answer.sentAt, cached: answer.started?.cachedTokens ?? 0 };
  }

  async #holder(number: number): Promise<{ routerId: string; address: string; tokens: number }> {
    const { address } = await this.cluster.routerClient(number);
    return { routerId: `router-${number}`, address, tokens: this.#subject.prefixTokens };
  }

  async http(prefix: number): Promise<Timed> {
    const { url } = this.cluster;
    const stream = await streamCompletion({ url, prompt: this.prompt(prefix), maxTokens: ANSWER_TOKENS });
    return { ms: stream.firstAt - stream.sentAt, cached: stream.cachedTokens };
  }

  /** Resolves when nothing is written to host memory or disk any more. */
  async settled(router: number): Promise<void> {
    const client = await this.cluster.routerClient(router);
    let before = '';
    for (let same = 0; same < 4;) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      const now = JSON.stringify((await client.info()).tiers, (_, value: unknown) =>
        typeof value === 'bigint' ? Number(value) : value,
      );
      same = now === before ? same + 1 : 0;
      before = now;
    }
  }
}

/** Time to the first token of one subject by every way, each run with a prefix of its own. */
export async function measureTtft(context: BenchContext, subject: Subject): Promise<void> {
  const group = `prefix/${subject.name}/ttft`;
  // Each row is asked for, so that known ones join the report.
  if (KINDS.filter((kind) => context.wants(`${group}/${kind}`)).length === 0) return;
  const { options, progress } = context;
  progress.update(`${group}: loading`, 0);
  const rig = await PrefixRig.start(subject, options.threads);
  const times = new Map<Kind, Timed[]>(KINDS.map((kind) => [kind, []]));
  const keep = async (kind: Kind, timed: Promise<Timed>): Promise<void> => {
    const { ms, cached } = await timed;
    progress.done(`${group}/${kind}: ${Math.round(ms)} ms, ${cached} tokens cached`);
    times.get(kind)?.push({ ms, cached });
  };
  try {
    // Both routers get to know what computing costs them.
    for (const router of [1, 2]) await warm(await rig.cluster.routerClient(router), subject.vocab);
    for (let run = 0; run < options.runs; run++) {
      progress.update(`${group}: run ${run + 1} of ${options.runs}`, run / options.runs);
      await oneRun(rig, run, keep);
    }
    addRows(context, group, subject, times);
  } finally {
    await rig.cluster.stop();
  }
}

async function warm(client: RouterClient, vocab: number): Promise<void> {
  for (const seed of [1, 2]) {
    await client.generate({ promptIds: [...tokensAt(seed, 7, 700, vocab)], stop: { maxTokens: ANSWER_TOKENS } });
  }
}

async function oneRun(rig: PrefixRig, run: number, keep: (kind: Kind, timed: Promise<Timed>) => Promise<void>) {
  const [here, other] = [2 * run, 2 * run + 1];
  await keep('cold', rig.direct(1, here));
  await rig.settled(1);
  await keep('hit', rig.direct(1, here));
  await keep('pull', rig.direct(2, here, 1));
  await rig.settled(2);
  // Both have it now: whichever the gateway takes.
  await keep('http-hit', rig.http(here));
  // Takes the pages of the first one.
  await rig.direct(1, other);
  await rig.settled(1);
  await keep('host', rig.direct(1, here));
  await rig.settled(1);
  await rig.cluster.restartRouter(1);
  await warm(await rig.cluster.routerClient(1), 100);
  await keep('disk', rig.direct(1, here));
}

function addRows(context: BenchContext, group: string, subject: Subject, times: Map<Kind, Timed[]>): void {
  const cold = (times.get('cold') ?? []).map(({ ms }) => ms);
  const about = `prompt of ${subject.prefixTokens} shared tokens and ${TAIL_TOKENS} others`;
  for (const kind of KINDS) {
    const timed = times.get(kind) ?? [];
    const name = `${group}/${kind}`;
    const wanted = kind === 'cold' ? 0 : subject.prefixTokens;
    const missed = timed.filter(({ cached }) => cached !== wanted);
    if (missed.length > 0) {
      const found = missed.map(({ cached }) => cached).join(', ');
      context.add(missingRow({ name, unit: 'ms', target: TARGETS[kind] }, `cached tokens ${found}, not ${wanted}`));
      continue;
    }
    const peer = kind === 'cold' ? null : { name: 'computing it (cold)', values: cold };
    const values = timed.map(({ ms }) => ms);
    const note = `${about}; ${ABOUT[kind]}`;
    context.add(makeRow({ name, unit: 'ms', values, better: 'less', peer, target: TARGETS[kind], note }));
  }
}
