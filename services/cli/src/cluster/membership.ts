import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { type Clock, fail, type FileLock, isGuildhallError, VERSION } from '@guildhall/common';
import { canListen } from '../stack/ports.ts';
import { certificateHash, makeRequest } from './authority.ts';
import { join, parseHeadUrl, renew, type TrustedHead, trustHead } from './join-client.ts';
import { type JoinedConfig, JoinedDir, type Membership } from './joined-dir.ts';
import { readText } from './private-files.ts';
import { parseToken } from './tokens.ts';

/** First port that a worker tries on a machine. */
export const WORKER_PORT = 7600;
const PORTS_TRIED = 100;

/** What `guildhall join` was told; null for what was not said. */
export interface JoinWish {
  url: string | null;
  token: string | null;
  id: string | null;
  memoryMib: number | null;
  threads: number | null;
  advertise: string | null;
  port: number | null;
  failureDomain: string | null;
  model: string | null;
}

type Env = Record<string, string | undefined>;

/** A member on this machine, with the right to run it. */
export interface Entered {
  dir: JoinedDir;
  /** Held until the worker has ended. */
  lock: FileLock;
  isNew: boolean;
  /** Why the head gave no new certificate; null when it did. */
  headAway: string | null;
}

/**
 * The member that a wish means: one that is here already, whose certificate is renewed if the head answers, or a new
 * one for which the token is used. A member that the head has forgotten joins again where there is a token. Throws
 * `config_invalid` when the wish fits none or several, `id_in_use` while the member runs, and what the head answers.
 */
export async function enterCluster(wish: JoinWish, env: Env, clock: Clock): Promise<Entered> {
  const known = findJoined(wish, env);
  if (known !== null) {
    const lock = known.lock(clock);
    try {
      return await resume(known, lock, wish, env, clock);
    } catch (err) {
      lock.release();
      throw err;
    }
  }
  const { url, token } = wish;
  if (url !== null && token !== null) {
    const dir = await joinNew(wish, url, token, env, clock);
    return { dir, lock: dir.lock(clock), isNew: true, headAway: null };
  }
  const what =
    wish.id === null
      ? 'nothing on this machine has joined a cluster yet'
      : `${wish.id} has not joined from this machine`;
  throw fail('config_invalid', `${what}; give the line that guildhall cluster token create prints on the head`, {
    field: url === null ? 'url' : 'token',
  });
}

async function resume(dir: JoinedDir, lock: FileLock, wish: JoinWish, env: Env, clock: Clock): Promise<Entered> {
  const config = changed(dir.config(), wish);
  dir.writeConfig(config);
  try {
    await renewMembership(dir, clock);
    return { dir, lock, isNew: false, headAway: null };
  } catch (err) {
    if (!isGuildhallError(err)) throw err;
    const counts = dir.membership().expiresAtMs > clock.nowMs();
    if (err.code === 'peer_unavailable' && counts) return { dir, lock, isNew: false, headAway: err.message };
    if (err.code !== 'forbidden' || wish.url === null || wish.token === null) throw err;
    await joinNew({ ...wish, id: config.id }, wish.url, wish.token, env, clock);
    return { dir, lock, isNew: true, headAway: null };
  }
}

function findJoined(wish: JoinWish, env: Env): JoinedDir | null {
  if (wish.id !== null) {
    const dir = JoinedDir.of(wish.id, env);
    return dir.exists && isSameCluster(dir.config(), wish) ? dir : null;
  }
  const fitting = JoinedDir.all(env).filter((dir) => isSameCluster(dir.config(), wish));
  if (fitting.length <= 1) return fitting[0] ?? null;
  const ids = fitting.map((dir) => dir.config().id).join(', ');
  throw fail('config_invalid', `several have joined from this machine: ${ids}; say with --id which one is meant`, {
    field: 'id',
  });
}

/** A token says it best: a cluster that was set up anew at the same address is another one. */
function isSameCluster(config: JoinedConfig, { url, token }: JoinWish): boolean {
  if (token !== null) return parseToken(token).authority === config.authority;
  if (url === null) return true;
  const { host, port } = parseHeadUrl(url);
  return host === config.head.host && port === config.head.port;
}

function changed(config: JoinedConfig, wish: JoinWish): JoinedConfig {
  return {
    ...config,
    head: wish.url === null ? config.head : parseHeadUrl(wish.url),
    advertise: wish.advertise ?? config.advertise,
    port: wish.port ?? config.port,
    memoryMib: wish.memoryMib ?? config.memoryMib,
    threads: wish.threads ?? config.threads,
    failureDomain: wish.failureDomain ?? config.failureDomain,
    model: wish.model ?? config.model,
  };
}

async function joinNew(wish: JoinWish, url: string, tokenText: string, env: Env, clock: Clock): Promise<JoinedDir> {
  const token = parseToken(tokenText);
  const where = parseHeadUrl(url);
  const head = await trustHead(where, token.authority, clock);
  const advertise = wish.advertise ?? head.localAddress;
  const port = wish.port ?? (await freeWorkerPort());
  const { key, pem } = await makeRequest(wish.id ?? 'worker');
  const { id, secret } = token;
  const message = { version: VERSION, token: { id, secret }, id: wish.id, addresses: [advertise], csr: pem };
  const admitted = await join(head, message, clock);
  const dir = JoinedDir.of(admitted.id, env);
  if (wish.id === null && dir.exists) {
    const what = `${dir.path} is of another cluster, where this machine is ${admitted.id} too`;
    throw fail('id_in_use', `${what}; join with an --id of your choice`, { field: 'id' });
  }
  const { memoryMib, threads, model } = wish;
  const failureDomain = wish.failureDomain ?? '';
  const limits = { memoryMib, threads, failureDomain, model };
  dir.create({ id: admitted.id, head: where, authority: token.authority, advertise, port, ...limits }, head.authority);
  dir.writeMembership(admitted, key, clock.nowMs());
  return dir;
}

async function freeWorkerPort(): Promise<number> {
  for (let port = WORKER_PORT; port < WORKER_PORT + PORTS_TRIED; port++)
    if (await canListen('0.0.0.0', port)) return port;
  return 0;
}

/**
 * Gets a new certificate, and with it what the cluster has agreed on by now. Throws `peer_unavailable` when the head is
 * away, `forbidden` when it does not know this member any more.
 */
export async function renewMembership(dir: JoinedDir, clock: Clock): Promise<Membership> {
  const config = dir.config();
  const { certificate, key } = ownPair(dir);
  const authority = readText(dir.authorityFile) ?? '';
  const trusted = certificateHash(new X509Certificate(authority).raw) === config.authority;
  if (!trusted) throw fail('config_invalid', `${dir.authorityFile} is not the authority that was joined; join anew`);
  const head: TrustedHead = { ...config.head, authority, localAddress: '' };
  const next = await makeRequest(config.id);
  const admitted = await renew(
    head,
    { certificate, key },
    { version: VERSION, addresses: [config.advertise], csr: next.pem },
  );
  return dir.writeMembership(admitted, next.key, clock.nowMs());
}

/** True when two thirds of a certificate's time are over. */
export function isRenewalDue({ issuedAtMs, expiresAtMs }: Membership, nowMs: number): boolean {
  return nowMs >= issuedAtMs + ((expiresAtMs - issuedAtMs) * 2) / 3;
}

function ownPair(dir: JoinedDir): { certificate: string; key: string } {
  const names = dir.membership();
  const [certificate, key] = [readText(dir.file(names.certificate)), readText(dir.file(names.key))];
  if (certificate === null || key === null)
    throw fail('config_invalid', `certificate or key of ${dir.path} is missing; join anew`);
  return { certificate, key };
}

/** An address or host name for others. Throws `config_invalid`. */
export function advertiseAddress(text: string): string {
  const address = text.replace(/^\[(.*)\]$/, '$1');
  if (isIP(address) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(address)) return address;
  throw fail('config_invalid', `'${text}' is not an address or a name`, { field: 'advertise' });
}
