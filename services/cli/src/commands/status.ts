import { Command } from 'commander';
import { errorMessage } from '@guildhall/common';
import type { ControllerStatus } from '@guildhall/controller';
import { control, type router } from '@guildhall/proto';
import { addClusterOptions, type ClusterAccess, clusterAccess, type ClusterFlags } from '../stack/cluster-target.ts';
import { ClusterView, loadedShare, type ClusterSnapshot } from '../stack/cluster-view.ts';
import { getRouterInfo } from '../stack/router-client.ts';
import { StateDir } from '../stack/state-dir.ts';
import { formatBytes } from '../ui/bytes.ts';
import { formatTable } from '../ui/table.ts';
import { kubernetesLines, placeColumns } from './status-kubernetes.ts';
import { controllerLines, workerTables } from './status-placement.ts';

interface StatusFlags extends ClusterFlags {
  json: boolean;
}

/** What a router says of itself, or why it said nothing, by its id. */
type RouterInfos = ReadonlyMap<string, router.RouterInfo | string>;

interface StatusFacts {
  snapshot: ClusterSnapshot;
  infos: RouterInfos;
  /** What the leading controller says; null without one. */
  said: ControllerStatus | null;
  url: string | null;
}

/** `guildhall status`: members, placement and coverage of a cluster, and what its routers have cached. */
export function statusCommand(): Command {
  const command = new Command('status').description('show the members, the placement and the load of a cluster');
  return addClusterOptions(command)
    .option('--json', 'print one JSON object', false)
    .action(async (flags: StatusFlags) => {
      const state = new StateDir(flags.stateDir ?? null);
      const access = clusterAccess(flags, state, process.env);
      const view = new ClusterView(access);
      try {
        await view.start();
        const snapshot = view.snapshot();
        const [infos, said] = await Promise.all([routerInfos(view.routers(), access), view.controllerStatus()]);
        const url = flags.redis ? null : (state.readRun()?.url ?? null);
        const facts = { snapshot, infos, said, url };
        process.stdout.write(flags.json ? `${JSON.stringify(asJson(facts))}\n` : asText(facts));
      } finally {
        await view.stop();
      }
    });
}

async function routerInfos(routers: readonly control.Member[], access: ClusterAccess): Promise<RouterInfos> {
  const ask = async ({ id, address }: control.Member): Promise<[string, router.RouterInfo | string]> => {
    try {
      return [id, await getRouterInfo(address, access)];
    } catch (error) {
      return [id, errorMessage(error)];
    }
  };
  return new Map(await Promise.all(routers.map(ask)));
}

function kindName(kind: control.MemberKind): string {
  return control.memberKindToJSON(kind).replace('MEMBER_KIND_', '').toLowerCase();
}

function asJson({ snapshot, infos, said, url }: StatusFacts): unknown {
  const { held, wanted } = loadedShare(snapshot);
  return {
    url,
    stale: snapshot.stale,
    epoch: Number(snapshot.placement?.epoch ?? 0n),
    experts: { held, wanted },
    controller: said,
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
      node: member.node,
      group: member.group,
      models: member.servedModels,
      ...cacheJson(infos.get(member.id)),
    })),
  };
}

function cacheJson(info: router.RouterInfo | string | undefined): object {
  if (info === undefined) return {};
  if (typeof info === 'string') return { cache: null, cacheError: info };
  return {
    cache: {
      pageTokens: info.pageTokens,
      pageBytes: Number(info.pageBytes),
      stateBytes: Number(info.stateBytes),
      pagesTotal: info.pagesTotal,
      pagesFree: info.pagesFree,
      tiers: info.tiers.map((tier) => ({
        name: tier.name,
        capacityBytes: Number(tier.capacityBytes),
        usedBytes: Number(tier.usedBytes),
        pages: Number(tier.pages),
        states: Number(tier.states),
      })),
    },
  };
}

function countHeld(member: control.Member): number {
  return member.holdings.reduce((sum, layer) => sum + layer.experts.length, 0);
}

/** One row for each tier of a router's cache; one that did not answer says why. */
function cacheRows(infos: RouterInfos): (string | number)[][] {
  return [...infos].flatMap(([id, info]) => {
    if (typeof info === 'string') return [[id, info]];
    return info.tiers.map((tier) => [
      id,
      tier.name,
      formatBytes(Number(tier.usedBytes)),
      formatBytes(Number(tier.capacityBytes)),
      Number(tier.pages),
      Number(tier.states),
      info.pageTokens,
    ]);
  });
}

function asText({ snapshot, infos, said, url }: StatusFacts): string {
  const place = placeColumns(snapshot.members);
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
      ...place.cells(member),
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
    ...(said === null ? [] : controllerLines(said)),
    '',
    formatTable(['id', 'kind', 'address', 'state', 'epoch', 'experts', 'running+waiting', ...place.headings], rows),
    ...(said === null ? [] : workerTables(said)),
    ...(said?.kubernetes ? kubernetesLines(said.kubernetes) : []),
  ];
  const cache = cacheRows(infos);
  if (cache.length > 0) {
    const headings = ['router', 'cache tier', 'used', 'of', 'pages', 'states', 'tokens of a page'];
    lines.push('', formatTable(headings, cache));
  }
  return `${lines.join('\n')}\n`;
}
