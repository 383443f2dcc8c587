import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Clock, fail } from '@guildhall/common';
import type { KvDtype } from '@guildhall/model/weights';
import type { WeightFormat } from '@guildhall/native';
import { headFolder } from '../stack/cluster-target.ts';
import { StateDir } from '../stack/state-dir.ts';
import { Authority } from './authority.ts';
import { MemberStore } from './members.ts';
import { makePrivateDir, readJson, readText, writeFile, writeJson } from './private-files.ts';
import { TokenStore } from './tokens.ts';

/** What `guildhall cluster init` was told; every `cluster up` goes by it. */
export interface ClusterConfig {
  name: string;
  /** Address under which the other machines reach this one, without a port. */
  host: string;
  /** Address that is bound; differs from `host` behind address translation. */
  bind: string;
  /** Ports; router and worker are the first of as many as there are. */
  ports: { join: number; redis: number; router: number; worker: number };
  /** Checkpoint on this machine. */
  model: string;
  servedModelNames: string[];
  weights: WeightFormat;
  kvDtype: KvDtype;
  bf16Kernels: string;
  combine: string;
  routers: number;
  /** Expert workers on this machine. */
  workers: number;
  /** Workers, here and elsewhere, to wait for before the first placement. */
  minWorkers: number;
  /** Copies of each expert, as far as workers and memory allow. */
  replicas: number;
  kvMemory: string;
  threads: number;
  /** HOST:PORT of the gateway. */
  listen: string;
}

/** Secrets of a cluster that no joining machine gets, but for the token. */
export interface ClusterSecrets {
  clusterToken: string;
  /** Redis password of the head's own services. */
  redisHead: string;
  /** Redis password of the join server, which lets members in and out. */
  redisAdmin: string;
}

/** Folder of a cluster on its head machine: authority, tokens, members, configuration. */
export class ClusterDir {
  readonly path: string;
  readonly tokens: TokenStore;
  readonly members: MemberStore;
  /** Where the running processes' logs and run file are. */
  readonly state: StateDir;

  /** @param path null for that of this machine's head. */
  constructor(path: string | null, env: Record<string, string | undefined>, clock: Clock) {
    this.path = resolve(path ?? headFolder(env));
    this.tokens = new TokenStore(this.#file('tokens.json'), clock);
    this.members = new MemberStore(this.#file('members.json'), clock);
    this.state = new StateDir(this.#file('run'));
  }

  get exists(): boolean {
    return existsSync(this.#file('cluster.json'));
  }

  /** PEM file of the authority's certificate, which everybody may read. */
  get authorityFile(): string {
    return this.#file('ca.pem');
  }

  /** Certificate of the head's processes, with the authority after it. */
  get certificateFile(): string {
    return this.#file('head.pem');
  }

  get keyFile(): string {
    return this.#file('head.key');
  }

  /** The configuration. Throws `not_found` before `cluster init`. */
  config(): ClusterConfig {
    const config = readJson<ClusterConfig>(this.#file('cluster.json'));
    if (config !== null) return config;
    throw fail('not_found', `there is no cluster in ${this.path}; make one with guildhall cluster init`);
  }

  secrets(): ClusterSecrets {
    const secrets = readJson<ClusterSecrets>(this.#file('secrets.json'));
    if (secrets !== null) return secrets;
    throw fail('config_invalid', `${this.#file('secrets.json')} is missing; make the cluster anew`);
  }

  authority(): Authority {
    const [certificate, key] = [readText(this.authorityFile), readText(this.#file('ca.key'))];
    if (certificate === null || key === null)
      throw fail('config_invalid', `ca.pem and ca.key are not both in ${this.path}`);
    return Authority.load(certificate, key);
  }

  /** Makes everything that a cluster is. The configuration comes last: it says that the rest is there. */
  async create(config: ClusterConfig, nowMs: number): Promise<void> {
    makePrivateDir(this.path);
    const authority = await Authority.create(`Guildhall cluster ${config.name}`, nowMs);
    writeFile(this.#file('ca.key'), authority.key, 0o600);
    writeFile(this.authorityFile, authority.pem, 0o644);
    const secret = (): string => randomBytes(32).toString('hex');
    const secrets: ClusterSecrets = { clusterToken: secret(), redisHead: secret(), redisAdmin: secret() };
    writeJson(this.#file('secrets.json'), secrets, 0o600);
    writeJson(this.#file('tokens.json'), [], 0o600);
    writeJson(this.#file('members.json'), [], 0o600);
    writeJson(this.#file('cluster.json'), config, 0o600);
  }

  /** A new certificate for the head's processes: they read it when they start. */
  async issueHeadCertificate(nowMs: number): Promise<void> {
    const { host, bind } = this.config();
    const addresses = [...new Set([host, ...(isWildcard(bind) ? [] : [bind]), '127.0.0.1', '::1'])];
    const { chain, key } = await this.authority().issue({ name: 'head', addresses, days: HEAD_DAYS, nowMs });
    writeFile(this.keyFile, key, 0o600);
    writeFile(this.certificateFile, chain, 0o644);
  }

  #file(name: string): string {
    return join(this.path, name);
  }
}

const HEAD_DAYS = 365;

export function isWildcard(address: string): boolean {
  return address === '0.0.0.0' || address === '::';
}
