import { join } from 'node:path';
import { Command, Option } from 'commander';
import { type Clock, errorMessage, systemClock } from '@guildhall/common';
import { KV_DTYPES, WEIGHT_FORMATS } from '@guildhall/model/weights';
import { ClusterDir } from '../cluster/cluster-dir.ts';
import { runHead } from '../cluster/head.ts';
import { type InitFlags, initCluster, joinLine } from '../cluster/init.ts';
import { isCurrent } from '../cluster/members.ts';
import { expelFromRedis } from '../cluster/redis-access.ts';
import { HEAD_UNIT, installUnit, requireRoot, systemEnv } from '../cluster/systemd.ts';
import { tokenState } from '../cluster/tokens.ts';
import { ROOT } from '../stack/state-dir.ts';
import { positiveInteger } from '../ui/arguments.ts';
import { durationMs } from '../ui/duration.ts';
import { formatTable } from '../ui/table.ts';

interface DirFlags {
  dir: string | null;
  json: boolean;
}

const clock: Clock = systemClock;

/** `guildhall cluster`: a cluster of several machines, from the one that is its head. */
export function clusterCommand(): Command {
  const command = new Command('cluster').description(
    'make and run a cluster of several machines; this one is its head',
  );
  for (const make of [initCommand, upCommand, tokenCommand, membersCommand, removeCommand]) command.addCommand(make());
  // The group itself prints nothing, but `--json` is understood by everything below it.
  return command.option('--json', 'given after a subcommand: print one JSON object', false).enablePositionalOptions();
}

function withDir(command: Command): Command {
  return command
    .option('--dir <dir>', 'folder of the cluster (default: GUILDHALL_HOME/cluster)')
    .option('--json', 'print one JSON object', false);
}

function openDir(flags: DirFlags): ClusterDir {
  return new ClusterDir(flags.dir ?? null, process.env, clock);
}

function print(flags: DirFlags, value: unknown, text: string): void {
  process.stdout.write(flags.json ? `${JSON.stringify(value)}\n` : text);
}

function initCommand(): Command {
  const collect = (value: string, all: string[]): string[] => [...all, value];
  const command = new Command('init').description(
    'make a cluster: its authority, its secrets and a token for machines',
  );
  withDir(command)
    .requiredOption('--advertise <host[:port]>', 'address of this machine for the others; the port is for joining')
    .option('--model <dir or org/name>', 'checkpoint on this machine', join(ROOT, 'models', 'tiny'))
    .option('--served-model-name <name>', 'name that requests use; repeat for aliases', collect, [])
    .option('--name <name>', 'name of the cluster', 'guildhall')
    .option('--bind <address>', 'address to listen on, where it is not the advertised one (default: that one)')
    .option('--redis-port <port>', 'port of Redis', positiveInteger, 7379)
    .option('--router-port <port>', 'port of the first router', positiveInteger, 7500)
    .option('--worker-port <port>', 'port of the first worker of this machine', positiveInteger, 7600)
    .option('--routers <n>', 'routers on this machine', positiveInteger, 1)
    .option('--workers <n>', 'expert workers on this machine: others get the model from them', positiveInteger, 1)
    .option(
      '--min-workers <n>',
      'workers, here and elsewhere, to wait for before the first placement',
      positiveInteger,
      1,
    )
    .option('--replicas <n>', 'copies of each expert, as far as workers and memory allow', positiveInteger, 1)
    .addOption(new Option('--weights <format>', 'weight format').choices(WEIGHT_FORMATS).default('bf16'))
    .addOption(new Option('--kv-dtype <format>', 'format of KV pages').choices(KV_DTYPES).default('auto'))
    .addOption(
      new Option('--bf16-kernels <family>', 'kernels for bf16; bf16-dot only where every machine has it')
        .choices(['bf16-fma', 'bf16-dot'])
        .default('bf16-fma'),
    )
    .addOption(new Option('--combine <mode>', 'what workers send back').choices(['exact', 'partial']).default('exact'))
    .option('--kv-memory <size>', 'memory of each KV cache, such as 2GiB', '256MiB')
    .option('--threads <n>', 'native threads of each process (default: one per core)', positiveInteger)
    .option('--listen <host:port>', 'address of the gateway', '127.0.0.1:8000')
    .option('--ttl <time>', 'how long the token counts, such as 30m or 24h', '24h')
    .option('--install', 'write a systemd unit for the head, enable and start it', false)
    .addOption(new Option('--install-root <dir>', 'write the unit and the cluster below DIR').default('/').hideHelp())
    .action(async (flags: InitFlags & DirFlags & { install: boolean; installRoot: string }) => {
      if (flags.install) requireRoot(flags.installRoot);
      const env = flags.install ? systemEnv(process.env, flags.installRoot) : process.env;
      const dir = new ClusterDir(flags.dir ?? null, env, clock);
      const made = await initCluster(dir, flags, clock);
      const unit = flags.install ? installUnit(HEAD_UNIT, flags.installRoot) : null;
      const { created, differences, line, expiresAtMs } = made;
      const start = unit?.started === true ? [] : [`start it:  guildhall cluster up${dirFlag(flags, dir)}`];
      const text = [
        created ? `made a cluster in ${dir.path}` : `there is a cluster in ${dir.path} already; nothing was changed`,
        ...differences.map((difference) => `  ${difference}`),
        ...(unit === null ? [] : [...unit.files.map((file) => `wrote ${file}`), ...unit.notes]),
        ...start,
        `on the other machines, until ${new Date(expiresAtMs).toISOString()}:`,
        `  ${line}`,
      ];
      print(flags, { dir: dir.path, ...made, unit }, `${text.join('\n')}\n`);
    });
  return command;
}

function dirFlag(flags: DirFlags, dir: ClusterDir): string {
  return flags.dir ? ` --dir ${dir.path}` : '';
}

function upCommand(): Command {
  const collect = (value: string, all: string[]): string[] => [...all, value];
  return withDir(new Command('up').description('run the head of the cluster: it serves, and machines can join'))
    .option('--api-key <key>', 'require this key of clients; repeat for more', collect, [])
    .option('--fresh', 'forget the API keys, usage and answers that earlier runs have kept', false)
    .action(async (flags: DirFlags & { apiKey: string[]; fresh: boolean }) => {
      await runHead(openDir(flags), { apiKeys: flags.apiKey, fresh: flags.fresh, json: flags.json }, clock);
    });
}

function tokenCommand(): Command {
  const command = new Command('token').description('tokens by which machines join');
  command.addCommand(
    withDir(new Command('create').description('make a token and print the line for a joining machine'))
      .option('--ttl <time>', 'how long it counts, such as 30m or 24h', '24h')
      .action(async (flags: DirFlags & { ttl: string }) => {
        const made = await joinLine(openDir(flags), durationMs(flags.ttl));
        print(flags, made, `${made.line}\n`);
      }),
  );
  command.addCommand(
    withDir(new Command('list').description('list the tokens, without their secrets')).action((flags: DirFlags) => {
      const tokens = openDir(flags)
        .tokens.list()
        .map((record) => ({
          id: record.id,
          state: tokenState(record, clock.nowMs()),
          created: new Date(record.createdAtMs).toISOString(),
          expires: new Date(record.expiresAtMs).toISOString(),
        }));
      const rows = tokens.map(({ id, state, created, expires }) => [id, state, created, expires]);
      print(flags, { tokens }, `${formatTable(['id', 'state', 'created', 'expires'], rows)}\n`);
    }),
  );
  command.addCommand(
    withDir(new Command('revoke').description('make a token worthless; machines that joined with it stay'))
      .argument('<id>', 'its first eight letters')
      .action(async (id: string, flags: DirFlags) => {
        const record = await openDir(flags).tokens.revoke(id.split('.')[0] ?? id);
        print(flags, { id: record.id, state: 'revoked' }, `the token ${record.id} is revoked\n`);
      }),
  );
  return command;
}

function membersCommand(): Command {
  return withDir(new Command('members').description('list the machines that joined')).action((flags: DirFlags) => {
    const members = openDir(flags)
      .members.list()
      .map((record) => ({
        id: record.id,
        state: record.removed ? 'removed' : isCurrent(record, clock.nowMs()) ? 'member' : 'expired',
        addresses: record.addresses,
        joined: new Date(record.joinedAtMs).toISOString(),
        certificateUntil: new Date(record.expiresAtMs).toISOString(),
        token: record.token,
      }));
    const rows = members.map((one) => [one.id, one.state, one.addresses.join(' '), one.joined, one.certificateUntil]);
    print(flags, { members }, `${formatTable(['id', 'state', 'addresses', 'joined', 'certificate until'], rows)}\n`);
  });
}

function removeCommand(): Command {
  return withDir(new Command('remove').description('shut a machine out; drain it first if it still serves'))
    .argument('<id>', 'its id; `guildhall cluster members` lists them')
    .action(async (id: string, flags: DirFlags) => {
      const dir = openDir(flags);
      const { expiresAtMs } = await dir.members.remove(id);
      // A Redis that does not run knows nobody; when it starts it is not told of this member.
      const redis = await expelFromRedis(dir, id).then(
        () => 'its connections to Redis are cut',
        (err: unknown) => `Redis was not told (${errorMessage(err)}); it will be when it starts`,
      );
      const until = new Date(expiresAtMs).toISOString();
      const text = `${id} may not renew any more; ${redis}. Its certificate itself counts until ${until}.\n`;
      print(flags, { id, removed: true, redis, certificateUntil: until }, text);
    });
}
