import { writeFileSync } from 'node:fs';
import { fail, systemClock } from '@guildhall/common';
import { Command } from 'commander';
import { reportPage } from '../bench-serve/html/page.ts';
import { type BenchServeResult, readResult } from '../bench-serve/result.ts';
import { runBench } from '../bench-serve/run/run-bench.ts';
import { type BenchServeFlags, type BenchServeSettings, settingsOf } from '../bench-serve/settings.ts';
import { asText, comparisonText } from '../bench-serve/text-report.ts';
import { exitStatus } from '../bench-serve/verdict.ts';
import { StateDir } from '../stack/state-dir.ts';
import { Progress } from '../ui/progress.ts';

interface CommandFlags extends BenchServeFlags {
  compare: string[];
  save?: string;
  html?: string;
  json: boolean;
  stateDir: string | null;
}

/** `guildhall bench`: measurements of servers from outside. */
export function benchCommand(): Command {
  const command = new Command('bench').description('measure a server that speaks an OpenAI-compatible API');
  command.addCommand(serveCommand());
  return command.option('--json', 'given after a subcommand: print one JSON object', false).enablePositionalOptions();
}

/** `guildhall bench serve`: a load generator for any OpenAI-compatible server. */
function serveCommand(): Command {
  const command = new Command('serve').description(
    'put a server under load and measure time to first token, time per token, throughput and goodput',
  );
  addTarget(command);
  addLoad(command);
  addRequests(command);
  return command
    .option('--slo <objectives>', 'milliseconds a request must keep, such as ttft:500,tpot:50; also e2e and gap')
    .option('--min-attainment <share>', 'end with status 1 when a smaller share of requests keeps the objectives')
    .option('--max-failures <share>', 'end with status 1 when a larger share of requests fails', '0')
    .option('--label <name>', 'name of this run in reports (default: the model)')
    .option('--seed <n>', 'of texts, lengths and arrivals', '1')
    .option('--save <file>', 'write the result as JSON')
    .option('--html <file>', 'write a report with plots, one file that needs no other')
    .option('--compare <files...>', 'measure nothing: put results that --save wrote beside each other', [])
    .option('--state-dir <dir>', 'where run.json is (default: .guildhall)')
    .option('--json', 'print the result as one JSON object', false)
    .action(async (flags: CommandFlags) => (flags.compare.length > 0 ? compare(flags) : bench(flags)));
}

function collect(value: string, all: string[]): string[] {
  return [...all, value];
}

function addTarget(command: Command): void {
  command
    .option('--url <url>', "server (default: this folder's running stack, else http://127.0.0.1:8000)")
    .option('--api-key <key>', 'API key', process.env['GUILDHALL_API_KEY'])
    .option('--api-key-file <file>', 'file with the API key')
    .option('--header <header>', "another header, as 'name: value'; repeat for more", collect, [])
    .option('--model <name>', 'model (default: the first one that the server lists)')
    .option('--api <name>', 'chat, completions or responses', 'chat')
    .option('--timeout <time>', 'longest request', '10m');
}

function addLoad(command: Command): void {
  command
    .option('--rate <list>', 'open loop: conversations a second; several, such as 1,2,4, make a sweep')
    .option('--concurrency <list>', 'closed loop: clients with one request at a time; several make a sweep')
    .option('--speed <list>', 'replay a trace at its own times, so many times as fast')
    .option('--arrivals <shape>', 'of --rate: poisson, constant or gamma', 'poisson')
    .option('--burstiness <shape>', 'of gamma arrivals: 1 is Poisson, less comes in bursts, more is evener', '1')
    .option('--requests <n>', 'requests of each load (default: 200, or all of a trace)')
    .option('--duration <time>', 'time in which requests of each load begin, such as 60s')
    .option('--warmup <n>', 'requests before the first load that are not counted', '4')
    .option('--max-in-flight <n>', 'requests at a time at most; others wait, and their wait counts', '4096');
}

function addRequests(command: Command): void {
  command
    .option('--trace <file>', 'recorded requests as JSON lines, with lengths (Mooncake), messages or a prompt each')
    .option(
      '--prompt <lengths>',
      'tokens of a message: sharegpt, 256, uniform:A,B or lognormal:MEAN,SIGMA[,MIN,MAX]',
      'sharegpt',
    )
    .option('--output <lengths>', 'tokens of an answer, in the same way', 'sharegpt')
    .option('--shared-prefix <tokens>', 'a system prompt of so many tokens that conversations share', '0')
    .option('--prefix-groups <n>', 'different shared prefixes', '1')
    .option('--turns <lengths>', 'requests of a conversation, each with the answers before it', '1')
    .option('--think <time>', 'mean time from an answer to the next request of a conversation, such as 5s', '0')
    .option('--temperature <t>', 'sampling temperature', '0')
    .option('--no-ignore-eos', 'let answers end by themselves, and send no ignore_eos')
    .option('--body <json>', 'fields to add to each request; null removes one', '{}');
}

async function bench(flags: CommandFlags): Promise<void> {
  const running = new StateDir(flags.stateDir ?? null).readRun()?.url ?? null;
  const settings = settingsOf(flags, running);
  const result = await untilInterrupted(settings, new Progress({ quiet: false }));
  write(flags, [result]);
  process.stdout.write(flags.json ? `${JSON.stringify(result)}\n` : asText(result));
  const { status, reason } = exitStatus(result, settings);
  if (reason !== null) process.stderr.write(`guildhall: ${reason}\n`);
  process.exitCode = status;
}

/** The first Ctrl-C ends the run with what was measured, the second one at once. */
async function untilInterrupted(settings: BenchServeSettings, progress: Progress): Promise<BenchServeResult> {
  const abort = new AbortController();
  const stop = (): void => {
    progress.done('stopping; what was measured is reported');
    abort.abort();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    return await runBench(settings, systemClock, abort.signal, progress);
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

function compare(flags: CommandFlags): void {
  if (flags.save !== undefined) throw fail('config_invalid', '--save: there is nothing to keep with --compare');
  const results = flags.compare.map(readResult);
  write(flags, results);
  process.stdout.write(flags.json ? `${JSON.stringify(results)}\n` : comparisonText(results));
}

function write(flags: CommandFlags, results: readonly BenchServeResult[]): void {
  if (flags.save !== undefined) writeFileSync(flags.save, `${JSON.stringify(results[0], null, 1)}\n`);
  if (flags.html !== undefined) writeFileSync(flags.html, reportPage(results));
}
