import { resolve } from 'node:path';
import { Command } from 'commander';
import { fail, systemClock } from '@guildhall/common';
import { chooseEndpoint } from '../hub/endpoint.ts';
import { ModelStore } from '../hub/model-store.ts';
import { PullProgress } from '../hub/pull-progress.ts';
import { pull, type PullResult } from '../hub/pull.ts';
import { parseRepoSpec } from '../hub/repo-spec.ts';
import type { PullSelection } from '../hub/selection.ts';
import { formatBytes } from '../ui/bytes.ts';
import { printFailure } from '../ui/failure.ts';
import { Progress } from '../ui/progress.ts';

interface PullFlags {
  dir?: string;
  endpoint?: string;
  metadataOnly: boolean;
  denseOnly: boolean;
  layers?: [number, number];
  experts?: [number, number];
  shard?: { index: number; count: number };
  all: boolean;
  jobs: number;
  verify: boolean;
  sha256?: string;
  json: boolean;
}

/** `guildhall pull`: brings a model of a hub here, whole or the part that one process needs. */
export function pullCommand(): Command {
  return new Command('pull')
    .description('fetch a model from a hub or a bucket: resumable, checked, whole or in part')
    .argument(
      '<model>',
      'org/name, org/name@revision (branch, tag or commit; default: main), hf://org/name@revision or s3://bucket/prefix',
    )
    .option('--dir <dir>', 'where the files go (default: GUILDHALL_HOME/models, found again by name)')
    .option(
      '--endpoint <url>',
      'hub or mirror (default: GUILDHALL_HUB_ENDPOINT or HF_ENDPOINT), or S3 server (default: AWS_ENDPOINT_URL_S3)',
    )
    .option('--metadata-only', 'only what a gateway needs: configuration, tokenizer and headers, no weights', false)
    .option('--dense-only', 'only what a router needs: everything but the routed experts', false)
    .option('--layers <a-b>', 'only the routed experts of these layers, for a worker', range)
    .option('--experts <a-b>', 'only these routed experts, as far as files hold them apart', range)
    .option('--shard <i/n>', 'only part i of n of the layers with their routed experts', shard)
    .option('--all', 'every file of the repository, other formats included', false)
    .option('--jobs <n>', 'files to fetch at the same time', jobs, 4)
    .option('--sha256 <hex>', 'refuse anything but the model with this hash, which --json prints', sha256)
    .option('--verify', 'hash again what is already here', false)
    .option('--json', 'print one JSON object', false)
    .addHelpText(
      'after',
      '\nA token for private and gated models is taken from GUILDHALL_HUB_TOKEN or HF_TOKEN.\nA bucket holds SHA256SUMS of its files (sha256sum); region, endpoint and credentials come from AWS_REGION,\nAWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID and wherever else AWS tools take them.',
    )
    .action(runPull);
}

async function runPull(repository: string, flags: PullFlags): Promise<void> {
  const progress = new Progress({ quiet: flags.json });
  const stop = stopSignal();
  const spec = parseRepoSpec(repository);
  const s3Endpoint = spec.s3 !== undefined && flags.endpoint ? { AWS_ENDPOINT_URL_S3: flags.endpoint } : {};
  const options = {
    spec,
    sha256: flags.sha256 ?? null,
    env: { ...process.env, ...s3Endpoint },
    endpoint: chooseEndpoint(spec.s3 === undefined ? (flags.endpoint ?? null) : null, process.env),
    selection: selectionOf(flags),
    store: new ModelStore(process.env),
    dir: flags.dir ? resolve(flags.dir) : null,
    jobs: flags.jobs,
    all: flags.all,
    verify: flags.verify,
    progress: new PullProgress(progress, systemClock),
    clock: systemClock,
    signal: stop,
  };
  try {
    const result = await pull(options);
    process.stdout.write(flags.json ? `${JSON.stringify(result)}\n` : asText(result, flags));
  } catch (err) {
    if (!stop.aborted) throw err;
    printFailure(fail('cancelled', 'stopped; the same command goes on from here'), flags.json);
    process.exitCode = 130;
  }
}

/** Aborts on the first signal; another one, later than what npm sends after the terminal's, ends the process. */
function stopSignal(): AbortSignal {
  const stop = new AbortController();
  let askedAt: number | null = null;
  const ask = (): void => {
    if (askedAt !== null && systemClock.monotonicMs() - askedAt > 1000) process.exit(130);
    askedAt ??= systemClock.monotonicMs();
    stop.abort();
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, ask);
  return stop.signal;
}

function selectionOf(flags: PullFlags): PullSelection {
  const { metadataOnly, denseOnly, layers = null, experts = null, shard: part = null } = flags;
  if (part !== null && layers !== null) {
    throw fail('config_invalid', '--shard and --layers both choose layers: give one of them', { field: 'shard' });
  }
  const weights = denseOnly || layers !== null || experts !== null || part !== null;
  if (metadataOnly && weights) {
    throw fail('config_invalid', '--metadata-only brings no weights: leave it out, or the parts', {
      field: 'metadataOnly',
    });
  }
  const whole = !metadataOnly && !weights;
  return { whole, dense: denseOnly, layers, experts, shard: part };
}

function asText(result: PullResult, flags: PullFlags): string {
  const { repo, revision, commit, dir, files, outlined, downloadedBytes, reusedBytes } = result;
  const came = downloadedBytes === 0 ? 'nothing had to come' : `${formatBytes(downloadedBytes)} came`;
  const lines = [
    `${repo}@${revision} is commit ${commit}`,
    `${dir}: ${files.length} files; ${came}, ${formatBytes(reusedBytes)} were here`,
  ];
  if (outlined.length > 0) lines.push(`${outlined.length} files of weights are known by their headers only`);
  else lines.push(`serve it: guildhall serve --model ${flags.dir ? dir : modelName(repo, revision)}`);
  return `${lines.join('\n')}\n`;
}

function modelName(repo: string, revision: string): string {
  return revision === 'main' ? repo : `${repo}@${revision}`;
}

function range(value: string): [number, number] {
  const [, first, last] = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(value) ?? [];
  const bounds: [number, number] = [Number(first), Number(last ?? first)];
  if (first !== undefined && bounds[0] <= bounds[1]) return bounds;
  throw fail('config_invalid', `'${value}' is no range such as 0-15 or 3`);
}

function shard(value: string): { index: number; count: number } {
  const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(value) ?? [];
  const part = { index: Number(index), count: Number(count) };
  if (index !== undefined && part.index >= 1 && part.index <= part.count) return part;
  throw fail('config_invalid', `'${value}' is no part such as 1/4: from 1/N to N/N`);
}

function sha256(value: string): string {
  if (/^[0-9a-f]{64}$/i.test(value)) return value.toLowerCase();
  throw fail('config_invalid', `--sha256: '${value}' is no sha256 in hex`, { field: 'sha256' });
}

function jobs(value: string): number {
  const count = Number(value);
  if (Number.isInteger(count) && count >= 1 && count <= 32) return count;
  throw fail('config_invalid', `--jobs: '${value}' is not 1 to 32`, { field: 'jobs' });
}
