import { Command, Option } from 'commander';
import { fail, systemClock } from '@guildhall/common';
import { type CheckResult, runChecks } from '../check/run-checks.ts';
import { addClusterOptions, clusterAccess, type ClusterFlags } from '../stack/cluster-target.ts';
import { ClusterView } from '../stack/cluster-view.ts';
import { StateDir } from '../stack/state-dir.ts';
import { formatTable } from '../ui/table.ts';

interface CheckFlags extends ClusterFlags {
  url: string;
  apiKey?: string;
  model?: string;
  timeout: number;
  json: boolean;
}

/** `guildhall check`: a real completion, and a live worker for every expert; exit code 1 when one of them is missing. */
export function checkCommand(): Command {
  const command = new Command('check')
    .description('check a running cluster: it is ready, answers a completion, and every expert has a live worker')
    .addOption(new Option('--url <url>', 'address of the gateway').env('GUILDHALL_URL').makeOptionMandatory())
    .addOption(new Option('--api-key <key>', 'key for it; better in the environment').env('GUILDHALL_API_KEY'))
    .option('--model <name>', 'served name to ask (default: the first)');
  return addClusterOptions(command)
    .option('--timeout <s>', 'seconds for everything together', seconds, 120)
    .option('--json', 'print one JSON object', false)
    .addHelpText('after', '\nWithout --redis (GUILDHALL_REDIS) the experts are not looked at.')
    .action(async (flags: CheckFlags) => {
      const results = await check(flags);
      const ok = results.every((result) => result.ok);
      process.stdout.write(flags.json ? `${JSON.stringify({ ok, checks: results })}\n` : asText(results));
      if (!ok) process.exitCode = 1;
    });
}

async function check(flags: CheckFlags): Promise<CheckResult[]> {
  const view = flags.redis
    ? new ClusterView(clusterAccess(flags, new StateDir(flags.stateDir ?? null), process.env))
    : null;
  try {
    await view?.start();
    return await runChecks({
      url: gatewayUrl(flags.url),
      apiKey: flags.apiKey ?? null,
      model: flags.model ?? null,
      snapshot: view === null ? null : () => view.snapshot(),
      timeoutMs: flags.timeout * 1000,
      clock: systemClock,
      onWait: (name, reason) => {
        if (!flags.json) process.stderr.write(`${name}: waiting: ${reason}\n`);
      },
    });
  } finally {
    await view?.stop();
  }
}

/** With or without /v1 and a slash at the end. */
function gatewayUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol))
    throw fail('config_invalid', `--url: expected http://host:port, got "${text}"`, { field: 'url' });
  return url.href.replace(/\/+$/, '').replace(/\/v1$/, '');
}

function seconds(value: string): number {
  const count = Number(value);
  if (Number.isFinite(count) && count > 0 && count <= 86_400) return count;
  throw fail('config_invalid', `--timeout: '${value}' is no number of seconds`, { field: 'timeout' });
}

function asText(results: readonly CheckResult[]): string {
  const rows = results.map(({ name, ok, found, ms }) => [ok ? 'ok' : 'FAILED', name, ms, found]);
  return `${formatTable(['', 'check', 'ms', 'found'], rows)}\n`;
}
