import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@guildhall/common';
import { makeRequest } from '../authority.ts';
import { ClusterDir, type ClusterConfig } from '../cluster-dir.ts';
import { join as joinCluster, trustHead, type TrustedHead } from '../join-client.ts';
import type { Admission, ClusterSettings } from '../join-messages.ts';
import { JoinServer, type JoinServerOptions } from '../join-server.ts';
import type { JoinToken } from '../tokens.ts';

/** Certificates are checked by TLS itself, against the clock of the machine. */
const NOW_MS = Date.now();

export const CONFIG: ClusterConfig = {
  name: 'test',
  host: '127.0.0.1',
  bind: '127.0.0.1',
  ports: { join: 0, redis: 0, router: 0, worker: 0 },
  model: '/nowhere',
  servedModelNames: [],
  weights: 'f32',
  kvDtype: 'auto',
  bf16Kernels: 'bf16-fma',
  combine: 'exact',
  routers: 1,
  workers: 0,
  minWorkers: 1,
  replicas: 1,
  kvMemory: '16MiB',
  threads: 1,
  listen: '127.0.0.1:0',
};

const SETTINGS: ClusterSettings = {
  name: 'test',
  clusterToken: 'the-cluster-token',
  redis: { host: '127.0.0.1', port: 1 },
  weights: 'f32',
  kvDtype: 'auto',
  bf16Kernels: 'bf16-fma',
  combine: 'exact',
  modelFingerprint: 'abc',
  modelName: 'tiny',
};

/** A join server of a cluster in a scratch folder, without the cluster's processes. */
export class JoinRig {
  readonly clock = new FakeClock(NOW_MS);
  readonly dir: ClusterDir;
  readonly events: string[] = [];
  /** Whom the server let into Redis. */
  readonly admitted: string[] = [];
  /** What the server says about the cluster. */
  settings: ClusterSettings = SETTINGS;
  server!: JoinServer;
  readonly #scratch: string;
  #stopped = false;

  private constructor(scratch: string) {
    this.#scratch = scratch;
    this.dir = new ClusterDir(join(scratch, 'cluster'), {}, this.clock);
  }

  static async start(change: Partial<JoinServerOptions> = {}): Promise<JoinRig> {
    const rig = new JoinRig(mkdtempSync(join(tmpdir(), 'guildhall-join-')));
    await rig.dir.create(CONFIG, NOW_MS);
    const { chain, key } = await rig.dir.authority().issue({
      name: 'head',
      addresses: ['127.0.0.1'],
      days: 1,
      nowMs: NOW_MS,
    });
    rig.server = await JoinServer.start({
      host: '127.0.0.1',
      port: 0,
      certificate: chain,
      key,
      authority: rig.dir.authority(),
      tokens: rig.dir.tokens,
      members: rig.dir.members,
      version: '0.1.0',
      settings: () => rig.settings,
      reservedIds: ['router-1'],
      headAddresses: ['10.0.0.1'],
      admit: async ({ id }) => void rig.admitted.push(id),
      clock: rig.clock,
      onEvent: (message) => void rig.events.push(message),
      ...change,
    });
    return rig;
  }

  get port(): number {
    return Number(this.server.address.split(':').at(-1));
  }

  async token(ttlMs = 3_600_000): Promise<JoinToken> {
    return (await this.dir.tokens.create({ ttlMs, authority: this.dir.authority().hash })).token;
  }

  /** The server, believed by the hash of a token. */
  trust(authority = this.dir.authority().hash): Promise<TrustedHead> {
    return trustHead({ host: '127.0.0.1', port: this.port }, authority, this.clock);
  }

  /** Joins as a machine would; the answer with the key that belongs to it. */
  async join(
    token: Pick<JoinToken, 'id' | 'secret'>,
    id: string | null = null,
    addresses: string[] = ['127.0.0.1'],
  ): Promise<Admission & { key: string }> {
    const { key, pem } = await makeRequest('new');
    const message = { version: '0.1.0', token: { id: token.id, secret: token.secret }, id, addresses, csr: pem };
    return { ...(await joinCluster(await this.trust(), message, this.clock)), key };
  }

  /** The head is away from now on. */
  async stopServer(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.server.stop();
  }

  async stop(): Promise<void> {
    await this.stopServer();
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}
