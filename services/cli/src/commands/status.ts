import { Command } from 'commander';
import { fail } from '@guildhall/common';
import { control } from '@guildhall/proto';
import { ClusterView, loadedShare, type ClusterSnapshot } from '../stack/cluster-view.ts';
import { StateDir, type RunSecrets } from '../stack/state-dir.ts';
import { formatTable } from '../ui/table.ts';

interface StatusFlags {
  redis: string | null;
  cluster: string;
  stateDir: string | null;
  json: boolean;
}

/** `guildhall status`: members, placement and coverage of a cluster. */
export function statusCommand(): Command {
  return new Command('status')
    .description('show the members, the placement and the load of a cluster')
    .option('--redis <url>', "Redis of the cluster (default: this folder's running stack)")
    .option('--cluster <name>', 'name of the cluster in that Redis', 'default')
    .option('--state-dir <dir>', 'where run.json is (default: .guildhall)')
    .option('--json', 'print one JSON object', false)
    .action(async (flags: StatusFlags) => {
      const state = new StateDir(flags.stateDir ?? null);
      const view = new ClusterView(target(flags, state));
      try {
        await view.start();
        const snapshot = view.snapshot();
        const url = flags.redis ? null : (state.readRun()?.url ?? null);
        process.stdout.write(flags.json ? `${JSON.stringify(asJson(snapshot, url))}\n` : asText(snapshot, url));
      } finally {
        await view.stop();
      }
    });
}

function target(flags: StatusFlags, state: StateDir): RunSecrets {
  if (flags.redis) return { redisUrl: flags.redis, cluster: flags.cluster, clusterToken: '' };
  const secrets = state.readSecrets();
  if (secrets === null)
    throw fail('not_found', `nothing is running from ${state.path}; start it with \`npm run up\`, or give --redis`);
  return secrets;
}

function kindName(kind: control.MemberKind): string {
  return control.memberKindToJSON(kind).replace('MEMBER_KIND_', '').toLowerCase();
}

function asJson(snapshot: ClusterSnapshot, url: string | null): unknown {
  const { held, wanted } = loadedShare(snapshot);
  return {
    url,
    stale: snapshot.stale,
    epoch: Number(snapshot.placement?.epoch ?? 0n),
    experts: { held, wanted },
    members: snapshot.members.map((member) => ({
      id: member.id,
      kind: kindName(member.kind),
      address: member.address,
      ready: member.ready,
      draining: member.draining,
      ackedEpoch: Number(member.ackedEpoch),
      running: member.running,
      waiting: member.waiting,
      expertsHeld: countHeld(member),
      modelFingerprint: member.modelFingerprint,
      numericsId: member.numericsId,
      version: member.version,
      models: member.servedModels,
    })),
  };
}

function countHeld(member: control.Member): number {
  return member.holdings.reduce((sum, layer) => sum + layer.experts.length, 0);
}

function asText(snapshot: ClusterSnapshot, url: string | null): string {
  const rows = [...snapshot.members]
    .sort((a, b) => a.kind - b.kind || a.id.localeCompare(b.id))
    .map((member) => [
      member.id,
      kindName(member.kind),
      member.address,
      member.draining ? 'draining' : member.ready ? 'ready' : 'starting',
      Number(member.ackedEpoch),
      member.kind === control.MemberKind.MEMBER_KIND_EXPERT || countHeld(member) > 0 ? countHeld(member) : '',
      member.kind === control.MemberKind.MEMBER_KIND_ROUTER ? `${member.running}+${member.waiting}` : '',
    ]);
  const { held, wanted } = loadedShare(snapshot);
  const oneBox = snapshot.members.filter(
    (member) => member.kind === control.MemberKind.MEMBER_KIND_ROUTER && countHeld(member) > 0,
  );
  const coverage =
    snapshot.placement === null
      ? oneBox.length > 0
        ? `all experts in the process of ${oneBox.map((member) => member.id).join(', ')}`
        : 'no placement yet'
      : `epoch ${snapshot.placement.epoch}, experts held ${held} of ${wanted}`;
  const lines = [
    ...(url === null ? [] : [`API: ${url}/v1`]),
    `placement: ${coverage}${snapshot.stale ? ' (Redis is away: last known state)' : ''}`,
    '',
    formatTable(['id', 'kind', 'address', 'state', 'epoch', 'experts', 'running+waiting'], rows),
  ];
  return `${lines.join('\n')}\n`;
}
