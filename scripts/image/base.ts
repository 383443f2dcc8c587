import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEBIAN_PACKAGES, UID, USER } from './layout.ts';

/** A Debian package in the base layer. */
export interface DebianPackage {
  name: string;
  version: string;
  architecture: string;
}

/** Folders that runtimes mount over, and what processes find there; everything else of base-files is dropped. */
const FOLDERS: readonly [string, number][] = [
  ['dev', 0o755],
  ['proc', 0o555],
  ['run', 0o755],
  ['sys', 0o555],
  ['tmp', 0o1777],
];
const DROPPED = [
  'bin',
  'boot',
  'home',
  'media',
  'mnt',
  'opt',
  'root',
  'sbin',
  'srv',
  'var',
  // Settings of login shells and package managers.
  'etc/apt',
  'etc/ca-certificates',
  'etc/default',
  'etc/dpkg',
  'etc/profile.d',
  'etc/skel',
  'etc/update-motd.d',
  // Conversions between character sets, which Node does itself.
  'usr/lib/x86_64-linux-gnu/gconv',
  'usr/lib/aarch64-linux-gnu/gconv',
  // Manuals, translations, helpers of debuggers.
  'usr/games',
  'usr/include',
  'usr/share/base-files',
  'usr/share/bug',
  'usr/share/ca-certificates',
  'usr/share/dict',
  'usr/share/gcc',
  'usr/share/gdb',
  'usr/share/info',
  'usr/share/lintian',
  'usr/share/locale',
  'usr/share/man',
  'usr/share/misc',
  'usr/sbin',
  'usr/src',
];

/**
 * Makes the base layer: a few Debian packages, taken apart without running anything of theirs, as root filesystems
 * without a shell are made. What apt downloads is checked against the archive's signatures.
 * @param debs folder for the downloaded packages.
 * @throws Error when apt-get is missing or fails.
 */
export function makeBase(layer: string, debs: string): DebianPackage[] {
  const files = download(debs);
  mkdirSync(layer, { recursive: true });
  for (const file of files) execFileSync('dpkg-deb', ['--extract', file, layer]);
  writeTrustedAuthorities(layer);
  for (const path of DROPPED) rmSync(join(layer, path), { recursive: true, force: true });
  keepLicences(join(layer, 'usr', 'share', 'doc'));
  for (const [path, mode] of FOLDERS) {
    mkdirSync(join(layer, path), { recursive: true });
    chmodSync(join(layer, path), mode);
  }
  writeUsers(layer);
  // Where scanners for vulnerabilities look for packages of images without a package manager.
  const status = join(layer, 'var', 'lib', 'dpkg', 'status.d');
  mkdirSync(status, { recursive: true });
  return files.map((file) => {
    const fields = execFileSync('dpkg-deb', ['--field', file], { encoding: 'utf8' });
    const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(fields)?.[1] ?? '';
    const name = field('Package');
    writeFileSync(join(status, name), fields);
    return { name, version: field('Version'), architecture: field('Architecture') };
  });
}

function download(debs: string): string[] {
  rmSync(debs, { recursive: true, force: true });
  mkdirSync(debs, { recursive: true });
  const get = (): string | null => {
    // As root apt would drop to a user that cannot write here.
    const options = ['-q', '-o', 'APT::Sandbox::User=root', 'download', ...DEBIAN_PACKAGES];
    const { status, stderr, error } = spawnSync('apt-get', options, { cwd: debs, encoding: 'utf8' });
    return status === 0 ? null : (error?.message ?? stderr).trim();
  };
  // Without package lists, as in a fresh container, apt knows no package yet.
  let problem = get();
  if (problem !== null) {
    spawnSync('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=300', 'update'], { stdio: 'ignore' });
    problem = get();
  }
  if (problem !== null) throw new Error(`apt-get download failed: ${problem}`);
  return readdirSync(debs)
    .filter((name) => name.endsWith('.deb'))
    .toSorted()
    .map((name) => join(debs, name));
}

/** One file of certificate authorities for programs that read the system's; Node brings its own as well. */
function writeTrustedAuthorities(layer: string): void {
  const folder = join(layer, 'usr', 'share', 'ca-certificates', 'mozilla');
  const certificates = readdirSync(folder).toSorted();
  mkdirSync(join(layer, 'etc', 'ssl', 'certs'), { recursive: true });
  const text = certificates.map((name) => readFileSync(join(folder, name), 'utf8').trimEnd()).join('\n');
  writeFileSync(join(layer, 'etc', 'ssl', 'certs', 'ca-certificates.crt'), `${text}\n`);
}

/** Of a package's documents only its licence is kept. */
function keepLicences(doc: string): void {
  for (const entry of readdirSync(doc, { withFileTypes: true })) {
    // A link leads to the documents of the package that it was built with.
    if (!entry.isDirectory()) continue;
    for (const name of readdirSync(join(doc, entry.name)))
      if (name !== 'copyright') rmSync(join(doc, entry.name, name), { recursive: true });
  }
}

function writeUsers(layer: string): void {
  const etc = (name: string, text: string): void => writeFileSync(join(layer, 'etc', name), text, { mode: 0o644 });
  etc('passwd', `root:x:0:0:root:/root:/sbin/nologin\n${USER}:x:${UID}:${UID}:${USER}:/tmp:/sbin/nologin\n`);
  etc('group', `root:x:0:\n${USER}:x:${UID}:\n`);
  etc('nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n');
}
