import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ShippedPackage } from './dependencies.ts';

const LICENCE_FILE = /^(?:licen[cs]e|copying|notice)/i;

/**
 * Texts of the licences of everything in the image that is not ours. Debian's are at `/usr/share/doc/*` + `/copyright`.
 * Packages that name a licence but bring no text are listed with the name alone.
 */
export function thirdPartyNotices(root: string, packages: readonly ShippedPackage[], nodeLicence: string): string {
  const parts = [
    'Third-party software in this image. Debian packages have their licences in /usr/share/doc.',
    section('Node.js', process.version, 'MIT and others', [nodeLicence]),
  ];
  // The same version installed twice is listed once.
  const distinct = new Map(packages.map((shipped) => [`${shipped.name}@${shipped.version}`, shipped]));
  for (const key of [...distinct.keys()].toSorted()) {
    const { name, version, license, path } = distinct.get(key) as ShippedPackage;
    parts.push(section(name, version, license, licenceTexts(join(root, path))));
  }
  return `${parts.join('\n\n')}\n`;
}

function licenceTexts(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name) && !/\.[cm]?[jt]s$/.test(entry.name))
    .map((entry) => readFileSync(join(folder, entry.name), 'utf8').trim());
}

function section(name: string, version: string, license: string, texts: readonly string[]): string {
  return [`${'='.repeat(80)}\n${name} ${version}\nLicence: ${license}\n${'='.repeat(80)}`, ...texts].join('\n\n');
}
