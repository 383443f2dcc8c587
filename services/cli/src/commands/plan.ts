import { writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { MACHINE_KINDS } from '../catalogue/machine-kinds.ts';
import { knownNames, mustKnow } from '../catalogue/models.ts';
import { explain } from '../plan/explain.ts';
import { requestOf } from '../plan/flags.ts';
import { problemsOf } from '../plan/problems.ts';
import { describePlan } from '../plan/report.ts';
import { search } from '../plan/search.ts';
import { planJson } from '../plan/json.ts';
import { helmValues } from '../plan/values.ts';
import { formatBytes } from '../ui/bytes.ts';
import { formatTable } from '../ui/table.ts';
import { parametersOf } from '@guildhall/model/weights';

interface PlanFlags {
  measure: boolean;
  measured?: string;
  save?: string;
  list: boolean;
  explain: boolean;
  json: boolean;
  values?: string;
  modelSource?: string;
}

const collect = (value: string, all: string[] = []): string[] => [...all, value];

/** `guildhall plan`: machines for a model and its traffic, or what a model does on given machines. */
export function planCommand(): Command {
  return new Command('plan')
    .description(
      'plan a cluster: what fits where, how fast it would be and what it would cost, with the Helm values for it',
    )
    .option('--model <model>', 'folder of a checkpoint, pulled model, or published shape (--list)', 'qwen3.5-397b-a17b')
    .option(
      '--machine <fields>',
      'kind=h100,count=4,gpus=8,memory=80GiB,bandwidth=2.5TB/s,flops=400TFLOPS,cores=64,network=100Gbit,price=2.0,role=any|router|expert; can be repeated',
      collect,
    )
    .option('--machines <file>', 'YAML or JSON with a list of such machines')
    .option('--host-costs <file>', 'what the programs cost there, as --measure --save has found it')
    .option('--users <n>', 'conversations at a time; with --requests-per-second those whose context is to stay cached')
    .option('--context <tokens>', 'of a conversation, prompt and answer together; by default these')
    .option('--prompt-tokens <n>', 'of a request', '1024')
    .option('--output-tokens <n>', 'of an answer', '256')
    .option('--requests-per-second <n>', 'that arrive; by default every user asks again when it has its answer')
    .option('--prefix-hit <share>', 'of the prompt that a cache has', '0')
    .option('--slo-ttft <time>', 'first token within, such as 2s')
    .option('--slo-itl <time>', 'time between tokens, such as 50ms')
    .option('--weights <format>', 'f32, bf16, fp8, q8, q4; auto chooses', 'bf16')
    .option('--kv-dtype <format>', 'auto, f32, bf16 or fp8', 'auto')
    .option('--combine <mode>', 'exact, partial; auto chooses', 'exact')
    .option('--copies <n>', 'of each expert; auto prefers two', 'auto')
    .option('--layer-shards <n>', 'deal the layers out in so many parts, each to its own workers; auto chooses', 'auto')
    .option('--experts <place>', 'remote: in workers; local: all in each router; auto chooses', 'auto')
    .option('--routers <n>', 'exactly so many')
    .option('--workers <n>', 'exactly so many')
    .option('--values <file>', 'write the values for the Helm chart; - for standard output alone')
    .option('--model-source <source>', "the chart's model.source, such as hf://ORG/NAME@COMMIT")
    .option('--explain', 'print the formulas with their numbers', false)
    .option('--list', 'print the shapes and kinds of machines that are known', false)
    .option('--measure', 'run clusters on this machine and say how far predictions are off', false)
    .option('--measured <file>', 'with --measure: a result that was kept before, instead of running clusters')
    .option('--save <dir>', 'with --measure: keep the result in a folder')
    .option('--json', 'print one JSON object', false)
    .action(async (flags: PlanFlags) => (flags.measure ? measure(flags) : run(flags)));
}

async function measure(flags: PlanFlags): Promise<void> {
  const { measurePlan } = await import('../plan/measure.ts');
  await measurePlan(flags);
}

function run(flags: PlanFlags): void {
  if (flags.list) return list(flags.json);
  const request = requestOf(flags, process.env);
  const plan = search(request);
  const problems = problemsOf(request, plan.chosen);
  const values = plan.chosen.router === null ? null : helmValues(plan, { source: flags.modelSource ?? null });
  if (flags.values !== undefined && flags.values !== '-' && values !== null) writeFileSync(flags.values, values);
  if (flags.json) process.stdout.write(`${JSON.stringify(planJson(plan, problems, values))}\n`);
  else if (flags.values === '-') process.stdout.write(values ?? '');
  else process.stdout.write(describePlan(plan, problems));
  if (flags.explain && !flags.json) process.stdout.write(`\n${explain(request, plan.chosen)}`);
  if (plan.chosen.shortfalls.length > 0) process.exitCode = 1;
}

function list(json: boolean): void {
  const models = knownNames().map((name) => {
    const { config } = mustKnow(name);
    return {
      name,
      ...parametersOf(config),
      layers: config.numLayers,
      experts: config.moe.numExperts,
      topK: config.moe.topK,
    };
  });
  if (json) {
    process.stdout.write(`${JSON.stringify({ models, machines: MACHINE_KINDS })}\n`);
    return;
  }
  const billions = (count: number): string => `${(count / 1e9).toFixed(2)} B`;
  const shapes = models.map((m) => [m.name, billions(m.total), billions(m.active), m.layers, m.experts, m.topK]);
  const kinds = MACHINE_KINDS.map((kind) => [
    kind.name,
    formatBytes(kind.memoryBytes),
    `${(kind.bytesPerSecond / 1e9).toFixed(0)} GB/s`,
    `${(kind.flopsPerSecond / 1e12).toFixed(1)} TFLOPS`,
    kind.source,
  ]);
  process.stdout.write(
    `${formatTable(['model', 'parameters', 'active', 'layers', 'experts', 'chosen'], shapes)}\n\n` +
      `${formatTable(['machine', 'memory', 'bandwidth', 'BF16', 'source'], kinds)}\n`,
  );
}
