import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { MachineNetwork, namespaceProblem } from '../harness/namespaces.ts';
import { ROOT, TINY } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';
import { Installation, type Running } from './installation.ts';
import { HTTP2_PREFACE, talk } from './probes.ts';

const problem = namespaceProblem();
const MODELS = join(ROOT, 'models');
const PORTS = { join: 7443, redis: 7379, router: 7500, worker: 7600 };

interface Token {
  url: string;
  token: string;
  tokenId: string;
}

interface Status {
  experts: { held: number; wanted: number };
  members: { id: string; kind: string; ready: boolean; expertsHeld: number }[];
}

describe('a cluster of three machines', { skip: problem ?? false }, () => {
  let scratch: string;
  let network: MachineNetwork;
  let head: Installation;
  let one: Installation;
  let two: Installation;
  let stranger: Installation;
  let up: Running;
  let joinedOne: Running;
  let joinedTwo: Running;
  let token: Token;
  let undisturbed: unknown;

  before(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'guildhall-machines-'));
    // No checkpoint can be seen but on the head.
    network = await MachineNetwork.start([
      { name: 'head' },
      { name: 'one', hidden: [MODELS] },
      { name: 'two', hidden: [MODELS] },
      { name: 'stranger', hidden: [MODELS] },
    ]);
    [head, one, two, stranger] = ['head', 'one', 'two', 'stranger'].map(
      (name) => new Installation(network.machine(name), scratch),
    ) as [Installation, Installation, Installation, Installation];
  });
  after(async () => {
    for (const installation of [one, two, stranger, head]) await installation?.stop();
    await network?.stop();
    rmSync(scratch, { recursive: true, force: true });
  });

  /** A sampled answer through the gateway, token by token. */
  async function ask(): Promise<unknown> {
    const body = JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content: 'What is the capital of France?' }],
      max_tokens: 24,
      temperature: 0.8,
      seed: 7,
      logprobs: true,
      ignore_eos: true,
    });
    return await head.machine.script(
      `const response = await fetch('http://127.0.0.1:8000/v1/chat/completions', {
         method: 'POST', headers: { 'content-type': 'application/json' }, body: process.env.BODY });
       const answer = await response.json();
       if (!response.ok) throw new Error(JSON.stringify(answer));
       console.log(JSON.stringify(answer.choices[0].logprobs.content.map(({ token, logprob }) => ({ token, logprob }))));`,
      { BODY: body },
    );
  }

  /** A look at the cluster; commands cost a second of a core, so not many of them. */
  async function status(): Promise<Status> {
    await sleep(1000);
    return await head.json<Status>('status');
  }

  /** Resolves when all of these hold experts, and every expert is held as often as it should be. */
  async function serving(...ids: string[]): Promise<void> {
    await until(
      `${ids.join(', ')} to hold experts`,
      async () => {
        const { members, experts } = await status();
        const holds = (id: string): boolean => members.some((one) => one.id === id && one.ready && one.expertsHeld > 0);
        return experts.wanted > 0 && experts.held === experts.wanted && ids.every(holds);
      },
      120_000,
    );
  }

  test('a head is made once and serves by itself', async () => {
    const init = [
      'cluster',
      'init',
      '--advertise',
      head.machine.ip,
      '--model',
      TINY,
      '--weights',
      'f32',
      '--threads',
      '1',
    ];
    const made = await head.json<Token & { created: boolean }>(...init);
    assert.equal(made.created, true);
    assert.equal(made.url, `https://${head.machine.ip}:${PORTS.join}`);
    token = made;
    const again = await head.json<{ created: boolean; differences: string[] }>(...init, '--replicas', '2');
    assert.equal(again.created, false);
    assert.deepEqual(again.differences, ['replicas is 1 there, asked for was 2']);
    up = head.start('cluster', 'up');
    await up.says('ready: every expert is held');
    undisturbed = await ask();
  });

  test('machines without a checkpoint join, and answers do not change', async () => {
    joinedOne = one.start('join', token.url, '--token', token.token, '--threads', '1');
    await joinedOne.says('expert-2 serves');
    joinedTwo = two.start('join', token.url, '--token', token.token, '--threads', '1', '--id', 'expert-3');
    await serving('expert-1', 'expert-2', 'expert-3');
    assert.deepEqual(await ask(), undisturbed);
    const rows = await head.expertRows();
    for (const id of ['expert-2', 'expert-3']) assert.ok((rows.get(id) ?? 0) > 0, `${id} computed rows`);
    // It is the peer's copy that is used: there is no other.
    assert.deepEqual((await one.machine.run('ls', [MODELS])).stdout, '');
    assert.ok(existsSync(join(one.joined, 'model', 'config.json')));
    const secrets = readdirSync(one.joined).filter((name) => /key|json$/.test(name));
    const modes = await one.machine.run('stat', ['-c', '%a', ...secrets.map((name) => join(one.joined, name))]);
    assert.match(modes.stdout, /^(600\n)+$/);
  });

  test('without a certificate of the cluster no port says anything, and none speaks plain text', async () => {
    const foreign: Certificates = makeCertificates(scratch, 'foreign');
    const own = JSON.parse(readFileSync(join(one.joined, 'membership.json'), 'utf8')) as {
      certificate: string;
      key: string;
    };
    const member = { cert: join(one.joined, own.certificate), key: join(one.joined, own.key) };
    const ports = [
      { host: head.machine.ip, port: PORTS.router, say: HTTP2_PREFACE },
      { host: head.machine.ip, port: PORTS.worker, say: HTTP2_PREFACE },
      { host: one.machine.ip, port: PORTS.worker, say: HTTP2_PREFACE },
      { host: head.machine.ip, port: PORTS.redis, say: 'PING\r\n' },
    ];
    const attempts = ports.map(async (place) => {
      const { machine } = stranger;
      const plain = await talk(machine, { ...place, tls: false });
      // A TLS server may answer plain text with an alert, which is a record that begins with 21, or say it is HTTP.
      assert.ok(plain === '' || plain.startsWith('\u0015') || plain.startsWith('HTTP/1.1 4'), JSON.stringify(plain));
      assert.equal(await talk(machine, { ...place, tls: true }), '', `${place.port} without a certificate`);
      const other = { ...place, tls: true, certificate: foreign };
      assert.equal(await talk(machine, other), '', `${place.port} with a foreign certificate`);
      // The same with a member's certificate is answered, so the silence above is about certificates.
      assert.notEqual(await talk(machine, { ...place, tls: true, certificate: member }), '', `${place.port}`);
    });
    await Promise.all(attempts);
    const request = 'POST /v1/renew HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}';
    const door = { host: head.machine.ip, port: PORTS.join, say: request };
    assert.match(await talk(stranger.machine, { ...door, tls: true, certificate: foreign }), /^HTTP\/1.1 403/);
    assert.ok(!(await talk(stranger.machine, { ...door, tls: false })).includes('200'));
  });

  test('tokens that are revoked, expired, guessed or of another cluster do not let in', async () => {
    const attempt = (text: string): Promise<string> => stranger.errorCode('join', token.url, '--token', text);
    const { token: revoked, tokenId } = await head.json<Token>('cluster', 'token', 'create');
    await head.json('cluster', 'token', 'revoke', tokenId);
    assert.equal(await attempt(revoked), 'join_token_invalid');
    const { token: short, tokenId: shortId } = await head.json<Token>('cluster', 'token', 'create', '--ttl', '1s');
    await until('the token to expire', async () => {
      const { tokens } = await head.json<{ tokens: { id: string; state: string }[] }>('cluster', 'token', 'list');
      return tokens.find(({ id }) => id === shortId)?.state === 'expired';
    });
    assert.equal(await attempt(short), 'join_token_expired');
    const [id, secret, authority] = token.token.split('.');
    const guesses = [`${id}.${'x'.repeat(32)}.${authority}`, `${id}.${secret}.${'x'.repeat(43)}`];
    assert.deepEqual(await Promise.all(guesses.map(attempt)), ['join_token_invalid', 'authority_mismatch']);
    assert.ok(!existsSync(join(stranger.home, 'joined')));
  });

  test('a member may write about itself in Redis, and nothing that others go by', async () => {
    const { redisPassword, certificate, key } = JSON.parse(
      readFileSync(join(one.joined, 'membership.json'), 'utf8'),
    ) as { redisPassword: string; certificate: string; key: string };
    const command = async (text: string): Promise<string> =>
      await talk(one.machine, {
        host: head.machine.ip,
        port: PORTS.redis,
        tls: true,
        certificate: { cert: join(one.joined, certificate), key: join(one.joined, key) },
        say: `AUTH member-expert-2 ${redisPassword}\r\n${text}\r\nQUIT\r\n`,
      });
    const prefix = 'gh:{guildhall}:';
    assert.match(await command(`GET ${prefix}epoch:current`), /\+OK\r\n\$/);
    for (const text of [
      `SET ${prefix}epoch:current 99`,
      `DEL ${prefix}leader`,
      `HSET ${prefix}member:router:router-1 value x`,
      'CONFIG GET requirepass',
      'FLUSHALL',
      'ACL LIST',
    ])
      assert.match(await command(text), /NOPERM/, text);
    assert.match(await command(`PTTL ${prefix}member:expert:expert-2`), /\+OK\r\n:\d/);
  });

  test('a worker that was killed goes on from its folder, without a token', async () => {
    await joinedOne.stop('SIGKILL');
    joinedOne = one.start('join');
    await joinedOne.says('expert-2 serves');
    await serving('expert-1', 'expert-2', 'expert-3');
    assert.deepEqual(await ask(), undisturbed);
  });

  test('a certificate is renewed while the worker runs', async () => {
    const path = join(two.joined, 'membership.json');
    const before = JSON.parse(readFileSync(path, 'utf8')) as { certificate: string; issuedAtMs: number };
    writeFileSync(path, JSON.stringify({ ...before, issuedAtMs: 0 }));
    await joinedTwo.says('the certificate is new');
    await serving('expert-1', 'expert-2', 'expert-3');
    assert.deepEqual(await ask(), undisturbed);
    assert.ok(!existsSync(join(two.joined, before.certificate)));
    assert.ok(joinedTwo.child.exitCode === null);
  });

  test('a head that was killed starts again, and its machines come back by themselves', async () => {
    await up.stop('SIGKILL');
    up = head.start('cluster', 'up');
    await up.says('ready: every expert is held', 120_000);
    await serving('expert-1', 'expert-2', 'expert-3');
    assert.deepEqual(await ask(), undisturbed);
  });

  test('a machine that was removed is cut off and does not come back', async () => {
    const removed = await head.json<{ redis: string }>('cluster', 'remove', 'expert-2');
    assert.match(removed.redis, /are cut/);
    await until('expert-2 to be gone', async () => {
      const { members, experts } = await status();
      return !members.some(({ id }) => id === 'expert-2') && experts.held === experts.wanted;
    });
    assert.deepEqual(await ask(), undisturbed);
    await joinedOne.stop();
    assert.equal(await one.errorCode('join'), 'forbidden');
  });
});
