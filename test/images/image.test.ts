import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { APP, LEFT_OUT_FILES, NODE, PROGRAMS, SIZE_LIMIT_MIB, UID } from '../../scripts/image/layout.ts';
import { type ImageRecord, OCI, readLayout, ROOTFS } from '../../scripts/image/oci.ts';
import { measure, walk } from '../../scripts/image/size.ts';
import { MachineNetwork, namespaceProblem } from '../harness/namespaces.ts';
import { ROOT } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';
import { ChartCluster } from './chart-cluster.ts';
import { PodContainer } from './pod-container.ts';
import { RenderedChart } from './rendered-chart.ts';
import { seccompProblem } from './seccomp.ts';

/** What keeps the image from being built or run here, or null. */
function imageProblem(): string | null {
  if (process.getuid?.() !== 0) return 'building and running the image takes root';
  const missing = ['buildah', 'runc'].find((program) => spawnSync(program, ['--version']).status !== 0);
  return missing === undefined ? (seccompProblem() ?? namespaceProblem()) : `${missing} is not installed`;
}

const problem = imageProblem();

interface Entry {
  path: string;
  mode: number;
  uid: number;
  gid: number;
  kind: 'file' | 'folder' | 'link' | 'other';
}

function entriesOf(root: string): Entry[] {
  return [...walk(root)].map((entry) => {
    const path = join(entry.parentPath, entry.name);
    const { mode, uid, gid } = lstatSync(path);
    const kind = entry.isFile() ? 'file' : entry.isDirectory() ? 'folder' : entry.isSymbolicLink() ? 'link' : 'other';
    return { path: `/${relative(root, path)}`, mode: mode & 0o7777, uid, gid, kind };
  });
}

/** A module's text as its URL. */
function moduleUrl(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

/** Puts a module that waits in the place of a service's own. */
const HOLD_SERVICES = `import { registerHooks } from 'node:module';
const source = "console.log('loading'); await new Promise((resolve) => setTimeout(resolve, 3_600_000));";
registerHooks({
  load: (url, context, next) =>
    url.endsWith('/src/main.js') ? { format: 'module', source, shortCircuit: true } : next(url, context),
});`;

describe('the container image', { skip: problem ?? false }, () => {
  let image: ImageRecord;
  let entries: Entry[];

  before(() => {
    execFileSync(process.execPath, ['scripts/image/main.ts'], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
    image = readLayout(OCI);
    entries = entriesOf(ROOTFS);
  });

  const paths = (wanted: (entry: Entry) => boolean): string[] => entries.filter(wanted).map(({ path }) => path);

  test('everything belongs to root, and nothing but /tmp can be written by others', () => {
    assert.ok(entries.length > 1000, `${entries.length} entries`);
    assert.deepEqual(
      paths(({ uid, gid }) => uid !== 0 || gid !== 0),
      [],
    );
    assert.deepEqual(
      paths(({ kind, mode }) => kind !== 'link' && (mode & 0o022) !== 0),
      ['/tmp'],
    );
    assert.equal(entries.find(({ path }) => path === '/tmp')?.mode, 0o1777);
    assert.deepEqual(
      paths(({ mode, kind }) => kind !== 'link' && (mode & 0o6000) !== 0),
      [],
    );
    assert.deepEqual(
      paths(({ kind }) => kind === 'other'),
      [],
    );
  });

  test('the user of the image can read everything', () => {
    assert.deepEqual(
      paths(({ kind, mode }) => kind === 'file' && (mode & 0o004) === 0),
      [],
    );
    assert.deepEqual(
      paths(({ kind, mode }) => kind === 'folder' && (mode & 0o005) !== 0o005),
      [],
    );
  });

  test('its programs are Node and Guildhall: no shell, no package manager, no test, no source', () => {
    const libraries = /\.(?:so(?:\.[\d.]+)?|node)$/;
    // What buildah leaves of the files that it mounts while a command runs; engines mount theirs over them.
    const stubs = ['/etc/hostname', '/etc/hosts', '/etc/resolv.conf'];
    for (const path of stubs.filter((stub) => existsSync(join(ROOTFS, stub))))
      assert.equal(lstatSync(join(ROOTFS, path)).size, 0, path);
    const executables = paths(
      ({ kind, mode, path }) => kind === 'file' && (mode & 0o111) !== 0 && !libraries.test(path),
    );
    const ours = executables.filter((path) => !path.startsWith(`${APP}/node_modules/`) && !stubs.includes(path));
    const expected = [NODE, ...Object.keys(PROGRAMS).map((name) => `${APP}/bin/${name}.js`)];
    assert.deepEqual(ours.toSorted(), expected.toSorted());
    assert.deepEqual(
      paths(({ kind, path }) => kind !== 'folder' && /\/(?:sh|bash|dash|busybox|apt|dpkg|npm)$/.test(path)),
      [],
    );
    assert.deepEqual(
      paths(({ path }) => /\.test\.[cm]?js$|\.[cm]?ts$|\.map$|\.tsbuildinfo$/.test(path)),
      [],
    );
    assert.deepEqual(
      paths(({ path }) => path.startsWith(`${APP}/dist/`) && path.includes('/testing/')),
      [],
    );
  });

  test('no rule of what is left out lets a file through', () => {
    const installed = paths(({ kind, path }) => kind === 'file' && path.startsWith(`${APP}/node_modules/`));
    const within = installed.map((path) => path.slice(path.lastIndexOf('/node_modules/') + '/node_modules/'.length));
    const split = within.map((path) => /^((?:@[^/]+\/)?[^/]+)\/(.*)$/.exec(path));
    const through = split.flatMap((match) => {
      const [whole = '', name = '', path = ''] = match ?? [];
      return LEFT_OUT_FILES.some((rule) => rule.path.test(path) && (rule.in?.test(name) ?? true)) ? [whole] : [];
    });
    assert.deepEqual(through, []);
    assert.deepEqual(
      paths(({ path }) => path.endsWith('.node') && /darwin|win32|musl|android/.test(path)),
      [],
    );
  });

  test('nothing in it looks like a secret', () => {
    const named = /(?:^|\/)(?:\.env|\.npmrc|\.netrc|id_(?:rsa|ed25519)|[^/]*\.(?:key|p12|pfx))$/;
    assert.deepEqual(
      paths(({ path }) => named.test(path)),
      [],
    );
    const texts = paths(({ kind, path }) => kind === 'file' && /\.(?:json|js|mjs|cjs|txt|ya?ml|crt|conf)$/.test(path));
    // In a licence or a program's text the words may stand; a key has its base64 after them.
    const key = /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\\?\r?\n?[A-Za-z0-9+/=]{40}/;
    assert.deepEqual(
      texts.filter((path) => key.test(readFileSync(join(ROOTFS, path), 'utf8'))),
      [],
    );
  });

  test(`without Node it takes less than ${SIZE_LIMIT_MIB} MiB`, () => {
    const { bytes, apartBytes } = measure(ROOTFS, [NODE]);
    assert.ok(apartBytes > 2 ** 20, 'Node is there');
    assert.ok(bytes - apartBytes < SIZE_LIMIT_MIB * 2 ** 20, `${(bytes - apartBytes) / 2 ** 20} MiB`);
  });

  test('its configuration names the user, and programs are on PATH', () => {
    const { User, Env, Cmd } = image.config.config;
    assert.equal(User, `${UID}:${UID}`);
    assert.deepEqual(Cmd, ['guildhall', '--help']);
    assert.ok(Env.includes('PATH=/usr/local/bin:/usr/bin:/bin'));
    for (const name of Object.keys(PROGRAMS))
      assert.equal(readlinkSync(join(ROOTFS, 'usr/local/bin', name)), `${APP}/bin/${name}.js`);
    assert.match(image.config.config.Labels['org.opencontainers.image.revision'] ?? '', /^[0-9a-f]{40}$/);
  });

  test('the bill of materials lists every package, and no other', () => {
    const bom = JSON.parse(readFileSync(join(ROOTFS, APP, 'sbom.cdx.json'), 'utf8')) as {
      components: { name: string; version: string; purl: string }[];
    };
    const manifests = paths(({ path }) =>
      new RegExp(`^${APP}/(?:.*/)?node_modules/(?:@[^/]+/)?[^/@]+/package\\.json$`).test(path),
    );
    const installed = manifests
      .filter((path) => path.startsWith(`${APP}/node_modules/`))
      .map((path) => JSON.parse(readFileSync(join(ROOTFS, path), 'utf8')) as { name: string; version: string })
      .map(({ name, version }) => `${name}@${version}`);
    assert.ok(installed.length > 50, `${installed.length} packages`);
    const ofNpm = bom.components.filter(({ purl }) => purl.startsWith('pkg:npm/'));
    assert.deepEqual(
      ofNpm.map(({ name, version }) => `${name}@${version}`).toSorted(),
      [...new Set(installed)].toSorted(),
    );
    const debian = bom.components.filter(({ purl }) => purl.startsWith('pkg:deb/')).map(({ name }) => name);
    assert.deepEqual(debian.toSorted(), readdirSync(join(ROOTFS, 'var/lib/dpkg/status.d')).toSorted());
  });

  test('licences of what others wrote are in it', () => {
    const notices = readFileSync(join(ROOTFS, APP, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
    for (const name of ['Node.js', '@grpc/grpc-js', 'tokenizers', 'fastify', 'ioredis'])
      assert.match(notices, new RegExp(`^${name} v?\\d`, 'm'), name);
    assert.ok(existsSync(join(ROOTFS, 'usr/share/doc/libc6/copyright')));
    assert.ok(existsSync(join(ROOTFS, APP, 'LICENSE')));
  });

  describe('under the security context of the chart', () => {
    const scratch = mkdtempSync(join(tmpdir(), 'guildhall-image-'));
    let chart: RenderedChart;
    let cluster: ChartCluster;

    before(async () => {
      chart = await RenderedChart.render();
      cluster = await ChartCluster.start({ chart, rootfs: ROOTFS, image: image.config.config, scratch });
    });
    after(async () => {
      await cluster?.stop();
      rmSync(scratch, { recursive: true, force: true });
    });

    test('every process runs without privileges, on a read-only root', async () => {
      for (const container of cluster.containers) {
        const status = container.status();
        assert.match(status.get('Uid') ?? '', new RegExp(`^${UID}\\s`), container.id);
        assert.match(status.get('Gid') ?? '', new RegExp(`^${UID}\\s`), container.id);
        for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
          assert.match(status.get(set) ?? '', /^0+$/, `${container.id} ${set}`);
        assert.equal(status.get('NoNewPrivs'), '1', container.id);
        assert.equal(status.get('Seccomp'), '2', container.id);
        assert.match(status.get('NSpid') ?? '', /\s1$/, `${container.id} is process 1`);
      }
      const [router] = cluster.of('router');
      const refused = `import { writeFileSync } from 'node:fs';
        const codes = ['/app/x', '/etc/x', '/x', '/tmp/x'].map((path) => {
          try { writeFileSync(path, 'x'); return 'written'; } catch (error) { return error.code; }
        });
        console.log(codes.join(' '));`;
      assert.equal(await router?.evaluate(refused), 'EROFS EROFS EROFS written');
    });

    test('a chat request through the gateway is answered', async () => {
      const answer = await cluster.chat('What is the capital of France?');
      assert.ok(answer.choices[0]?.message.content, JSON.stringify(answer));
      assert.ok(answer.usage.completion_tokens > 0);
    });

    test('SIGTERM to process 1 drains, ends with 0, and nothing was written outside of /tmp', async () => {
      for (const component of ['gateway', 'router', 'expert', 'controller'] as const)
        for (const container of cluster.of(component)) {
          assert.equal(await container.end(), 0, `${container.id}: ${container.output.slice(-2000)}`);
          assert.match(container.output, /"reason":"SIGTERM"/, container.id);
          assert.deepEqual(container.written(), [], container.id);
        }
    });
  });

  test('a program that is told to end while it starts ends at once', async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'guildhall-image-'));
    const network = await MachineNetwork.start([{ name: 'early' }]);
    let container: PodContainer | null = null;
    try {
      const chart = await RenderedChart.render();
      const pod = chart.pod('controller');
      const secrets = {
        'guildhall-cluster': { token: 'a token of the tests, long enough' },
        'guildhall-valkey': { password: 'x' },
      };
      // The service's own code is never reached: everything that happens is before it.
      const overrides = { NODE_OPTIONS: `--import=${moduleUrl(HOLD_SERVICES)}` };
      const machine = network.machine('early');
      const facts = { name: 'early', node: 'early', namespace: 'default', ip: machine.ip, secrets, overrides };
      const options = { machine, chart, pod, facts, rootfs: ROOTFS, image: image.config.config, scratch, hosts: [] };
      container = await PodContainer.start(options);
      await until('the program has begun', () => container?.output.includes('loading') ?? false);
      assert.equal(await container.end(), 143, container.output);
    } finally {
      await container?.end('KILL');
      await network.stop();
      rmSync(scratch, { recursive: true, force: true });
    }
  });
});
