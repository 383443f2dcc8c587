import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, fail, guildhallHome, tryLockFile, type FileLock } from '@guildhall/common';
import type { Admission, ClusterSettings } from './join-messages.ts';
import { makePrivateDir, readJson, writeFile, writeJson } from './private-files.ts';

/** What a joined process was told to be; a later `guildhall join` without a token goes by it. */
export interface JoinedConfig {
  id: string;
  /** HOST and port of the join server. */
  head: { host: string; port: number };
  /** Hash of the authority's certificate. */
  authority: string;
  /** Address under which others reach this machine, and the port of the worker. */
  advertise: string;
  port: number;
  memoryMib: number | null;
  threads: number | null;
  failureDomain: string;
  /** A checkpoint on this machine; null where everything comes from peers. */
  model: string | null;
}

/** The certificate in force, and what the head said with it. All of it changes in one step. */
export interface Membership {
  /** Names of the files with certificate and key. */
  certificate: string;
  key: string;
  issuedAtMs: number;
  expiresAtMs: number;
  redisPassword: string;
  cluster: ClusterSettings;
}

/** Folder of one process that joined a cluster: `HOME/joined/<id>`. */
export class JoinedDir {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  static home(env: Record<string, string | undefined>): string {
    return join(guildhallHome(env), 'joined');
  }

  /** Those on this machine. */
  static all(env: Record<string, string | undefined>): JoinedDir[] {
    const home = JoinedDir.home(env);
    if (!existsSync(home)) return [];
    return readdirSync(home)
      .map((name) => new JoinedDir(join(home, name)))
      .filter((dir) => existsSync(dir.file('joined.json')));
  }

  static of(id: string, env: Record<string, string | undefined>): JoinedDir {
    return new JoinedDir(join(JoinedDir.home(env), id));
  }

  get exists(): boolean {
    return existsSync(this.file('joined.json'));
  }

  get authorityFile(): string {
    return this.file('ca.pem');
  }

  /** Where what peers give of the model is kept. */
  get modelDir(): string {
    return this.file('model');
  }

  config(): JoinedConfig {
    const config = readJson<JoinedConfig>(this.file('joined.json'));
    if (config === null) throw fail('not_found', `nothing has joined a cluster from ${this.path}`);
    return config;
  }

  membership(): Membership {
    const membership = readJson<Membership>(this.file('membership.json'));
    if (membership === null) throw fail('config_invalid', `${this.file('membership.json')} is missing; join anew`);
    return membership;
  }

  /** Makes the folder; what an earlier member of that name left is replaced. */
  create(config: JoinedConfig, authority: string): void {
    makePrivateDir(this.path);
    writeFile(this.authorityFile, authority, 0o644);
    this.writeConfig(config);
  }

  writeConfig(config: JoinedConfig): void {
    writeJson(this.file('joined.json'), config, 0o600);
  }

  /** Takes a new certificate into force. The files of the one before it go. */
  writeMembership(admission: Admission, key: string, nowMs: number): Membership {
    const { certificate, expiresAtMs, cluster, id } = admission;
    const before = readJson<Membership>(this.file('membership.json'));
    const password = admission.redisPassword ?? before?.redisPassword;
    if (password === undefined) throw fail('config_invalid', `the Redis password of ${id} is lost; join anew`);
    // What peers gave of another model would keep the worker from ever fitting into the cluster.
    if (before !== null && before.cluster.modelFingerprint !== cluster.modelFingerprint)
      rmSync(this.modelDir, { recursive: true, force: true });
    const stem = `${id}-${nowMs}`;
    writeFile(this.file(`${stem}.key`), key, 0o600);
    writeFile(this.file(`${stem}.pem`), certificate, 0o644);
    const names = { certificate: `${stem}.pem`, key: `${stem}.key` };
    const membership = { ...names, issuedAtMs: nowMs, expiresAtMs, redisPassword: password, cluster };
    writeJson(this.file('membership.json'), membership, 0o600);
    for (const name of readdirSync(this.path)) {
      const old = name.startsWith(`${id}-`) && /\.(pem|key)$/.test(name) && !name.startsWith(stem);
      if (old) rmSync(this.file(name), { force: true });
    }
    return membership;
  }

  /** Throws `id_in_use` while another process runs from this folder. */
  lock(clock: Clock): FileLock {
    const lock = tryLockFile(this.file('running.lock'), clock);
    if ('release' in lock) return lock;
    throw fail(
      'id_in_use',
      `process ${lock.pid} already runs from ${this.path}; for a second worker on this machine give another --id`,
    );
  }

  file(name: string): string {
    return join(this.path, name);
  }
}
