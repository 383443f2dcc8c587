import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { fail, systemClock, type Clock } from '@guildhall/common';
import { KV_DTYPES, type KvDtype, WEIGHT_FORMATS } from '@guildhall/model/weights';
import type { WeightFormat } from '@guildhall/native';
import { ModelStore } from '../hub/model-store.ts';
import { ClusterView, loadedShare } from '../stack/cluster-view.ts';
import { getRouterInfo } from '../stack/router-client.ts';
import { ROOT, StateDir } from '../stack/state-dir.ts';
import { endLeftovers, Stack, type StackOptions } from '../stack/stack.ts';
import { stopRequest } from '../stack/stop-request.ts';
import { firstAnswer, type FirstAnswer } from '../stack/first-answer.ts';
import { positiveInteger } from '../ui/arguments.ts';
import { Progress } from '../ui/progress.ts';

export interface UpFlags {
  model: string;
  servedModelName: string[];
  workers: number;
  routers: number;
  experts: 'remote' | 'local';
  weights: WeightFormat;
  weightsCache: string;
  kvDtype: KvDtype;
  kvMemory: string;
  kvDisk: string | null;
  listen: string | null;
  apiKey: string[];
  threads: number | null;
  coreLeases: 'on' | 'off';
  otlp: string | null;
  fresh: boolean;
  prompt: string;
  smoke: boolean;
  json: boolean;
  stateDir: string | null;
  timeout: number;
}

/** Options that `up` and `serve` share. */
export function addStackOptions(command: Command): Command {
  const collect = (value: string, all: string[]): string[] => [...all, value];
  return command
    .option(
      '--model <dir or org/name>',
      'checkpoint in the Hugging Face layout, or a pulled model',
      join(ROOT, 'models', 'tiny'),
    )
    .option('--served-model-name <name>', 'name that requests use; repeat for aliases', collect, [])
    .option('--workers <n>', 'expert workers to start', positiveInteger, 2)
    .option('--routers <n>', 'routers to start: streams go on when one is drained or dies', positiveInteger, 1)
    .addOption(
      new Option('--experts <where>', 'in expert workers, or in the process of the router: fastest on one machine')
        .choices(['remote', 'local'])
        .default('remote'),
    )
    .addOption(new Option('--weights <format>', 'weight format').choices(WEIGHT_FORMATS).default('bf16'))
    .option('--weights-cache <where>', 'keep quantised weights: auto (beside the model), off, or a folder', 'auto')
    .addOption(new Option('--kv-dtype <format>', 'format of KV pages').choices(KV_DTYPES).default('auto'))
    .option('--kv-memory <size>', 'memory of each KV cache, such as 2GiB', '256MiB')
    .option('--kv-disk <dir>', 'keep pages of prompts on disk, in a folder for each router')
    .option('--listen <host:port>', 'address of the gateway (default: 127.0.0.1:8000 or the next free port)')
    .option('--api-key <key>', 'require this key; repeat for more', collect, [])
    .option(
      '--threads <n>',
      'native threads of each router and worker (default: 1; with local experts one per core)',
      positiveInteger,
    )
    .addOption(
      new Option('--core-leases <mode>', 'processes lease the cores from each other')
        .choices(['on', 'off'])
        .default('on'),
    )
    .option('--otlp <url>', 'send traces of every process to this collector, such as http://127.0.0.1:4317')
    .option('--fresh', 'forget the API keys, usage and answers that earlier runs have kept', false)
    .option('--state-dir <dir>', 'where run.json, logs and what Redis keeps go (default: .guildhall)')
    .option('--timeout <seconds>', 'give up when not ready by then', positiveInteger, 600);
}

/** `guildhall up`: the whole stack on this machine, a first answer, and on until Ctrl-C. */
export function upCommand(): Command {
  const command = new Command('up').description('start everything on this machine and answer a first prompt');
  return addStackOptions(command)
    .option('--prompt <text>', 'the first prompt', 'Hello! Who are you?')
    .option('--smoke', 'exit after the first answer', false)
    .option('--json', 'print one JSON object instead of text', false)
    .action(async (flags: UpFlags) => {
      await runStack(flags, { prompt: flags.prompt, smoke: flags.smoke, json: flags.json });
    });
}

export interface StackRun {
  /** First prompt, or null for none. */
  prompt: string | null;
  smoke: boolean;
  json: boolean;
}

/**
 * Starts the stack, waits until it can serve, answers `run.prompt`, and stays until a signal, the end of the process
 * that started it, or (with `smoke`) the first answer. Errors leave nothing running.
 */
export async function runStack(flags: UpFlags, run: StackRun): Promise<void> {
  const clock = systemClock;
  const state = new StateDir(flags.stateDir ?? null);
  const progress = new Progress({ quiet: run.json });
  const options = stackOptions(flags);
  const ended = await endLeftovers(state, clock);
  if (ended.length > 0) progress.done(`ended what an earlier run left behind: ${ended.join(', ')}`);
  const stack = new Stack(options, state, clock, {
    event: (message) => progress.done(message),
    progress: ({ name, what, done, total }) => progress.update(`${name}: ${what}, ${done} of ${total}`, done / total),
  });
  const stop = stopRequest(clock);
  try {
    await Promise.race([bringUp(stack, flags, run, progress, clock), stop.requested.then(() => undefined)]);
    if (!run.smoke && !stop.isRequested()) {
      if (!run.json) progress.done('Ctrl-C stops it.');
      await stop.requested;
    }
  } finally {
    progress.done('stopping');
    await stack.stop();
    stop.dispose();
  }
}

function stackOptions(flags: UpFlags): StackOptions {
  const { dir, name } = new ModelStore(process.env).find(flags.model);
  return {
    model: dir,
    servedModelNames: flags.servedModelName.length > 0 || name === null ? flags.servedModelName : [name],
    workers: flags.experts === 'local' ? 0 : flags.workers,
    routers: flags.routers,
    experts: flags.experts,
    weights: flags.weights,
    weightsCache: flags.weightsCache,
    kvDtype: flags.kvDtype,
    kvMemory: flags.kvMemory,
    kvDisk: flags.kvDisk ?? null,
    listen: flags.listen ?? null,
    apiKeys: flags.apiKey,
    threads: flags.threads ?? (flags.experts === 'local' ? availableParallelism() : 1),
    coreLeases: flags.coreLeases,
    otlp: flags.otlp ?? null,
    fresh: flags.fresh,
  };
}

async function bringUp(stack: Stack, flags: UpFlags, run: StackRun, progress: Progress, clock: Clock): Promise<void> {
  const started = clock.monotonicMs();
  progress.update(
    flags.experts === 'local'
      ? `starting redis, gateway and ${flags.routers === 1 ? 'a router' : `${flags.routers} routers`} with all experts`
      : 'starting redis, controller, routers, gateway and expert workers',
  );
  await stack.start();
  const view = new ClusterView(stack.secrets);
  try {
    await view.start();
    await untilReady(stack, view, progress, clock, flags.timeout * 1000);
    const readyMs = clock.monotonicMs() - started;
    progress.done(`ready in ${(readyMs / 1000).toFixed(1)} s`);
    const answer =
      run.prompt === null
        ? null
        : await firstAnswer({
            url: stack.url,
            apiKey: flags.apiKey[0] ?? null,
            model: stack.model,
            prompt: run.prompt,
            echo: !run.json,
            clock,
            expertRows: () => expertRows(view, stack),
          });
    report(stack, answer, readyMs, run.json);
  } finally {
    await view.stop();
  }
}

/** Expert rows that all routers had from each worker so far. */
async function expertRows(view: ClusterView, stack: Stack): Promise<Map<string, bigint>> {
  const infos = await Promise.all(view.routers().map((member) => getRouterInfo(member.address, stack.secrets)));
  const rows = new Map<string, bigint>();
  for (const [worker, count] of infos.flatMap((info) => [...info.expertRows]))
    rows.set(worker, (rows.get(worker) ?? 0n) + count);
  return rows;
}

async function untilReady(
  stack: Stack,
  view: ClusterView,
  progress: Progress,
  clock: Clock,
  limitMs: number,
): Promise<void> {
  const deadline = clock.monotonicMs() + limitMs;
  let reason = 'no answer yet';
  while (clock.monotonicMs() < deadline) {
    const response = await fetch(`${stack.url}/ready`).catch(() => null);
    const ready = view.routers().filter((member) => member.ready).length;
    if (response?.ok && ready >= stack.routers) return;
    if (response !== null)
      reason = response.ok ? `${ready} of ${stack.routers} routers are ready` : (await response.text()).slice(0, 300);
    const snapshot = view.snapshot();
    const { held, wanted } = loadedShare(snapshot);
    const label =
      wanted === 0
        ? `waiting for ${snapshot.members.length} processes to register`
        : `experts loaded: ${held} of ${wanted}`;
    progress.update(label, wanted === 0 ? 0 : held / wanted);
    await clock.sleep(100);
  }
  throw fail('not_ready', `not ready after ${limitMs / 1000} s: ${reason}\n  logs are in ${stack.logs}`);
}

function report(stack: Stack, answer: FirstAnswer | null, readyMs: number, json: boolean): void {
  if (json) {
    process.stdout.write(
      `${JSON.stringify({ url: stack.url, model: stack.model, readyMs: Math.round(readyMs), answer })}\n`,
    );
    return;
  }
  if (answer !== null) {
    const rows = Object.entries(answer.expertRows)
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([worker, count]) => `${worker} ${count}`);
    process.stdout.write(
      `\n\n${answer.completionTokens} tokens, ${answer.tokensPerSecond.toFixed(1)} tokens/s, first after ${answer.firstTokenMs.toFixed(0)} ms\n` +
        `expert rows served: ${rows.join(', ')}\n`,
    );
  }
  const example = JSON.stringify({
    model: stack.model,
    messages: [{ role: 'user', content: 'What is the capital of France?' }],
  });
  process.stdout.write(
    `\n${stack.url}/v1 speaks the OpenAI API:\n  curl ${stack.url}/v1/chat/completions -H 'content-type: application/json' -d '${example}'\n`,
  );
}
