import { execFileSync } from 'node:child_process';
import type { DebianPackage } from './base.ts';
import type { ShippedPackage } from './dependencies.ts';
import { ROOT } from './layout.ts';

interface Component {
  'bom-ref': string;
  type: string;
  name: string;
  version: string;
  purl: string;
  [field: string]: unknown;
}

interface CycloneDx {
  serialNumber?: string;
  metadata: { timestamp?: string; component: Record<string, unknown>; [field: string]: unknown };
  components: Component[];
  dependencies: { ref: string; dependsOn: string[] }[];
  [field: string]: unknown;
}

/**
 * The image's bill of materials in CycloneDX: npm's own, cut to what is in the image,
 * with the Debian packages and Node added. Time and serial number are left out: the same sources give the same file.
 */
export function billOfMaterials(packages: readonly ShippedPackage[], debian: readonly DebianPackage[]): CycloneDx {
  // Without --omit=dev, which also leaves out what both a service and a tool of development need.
  const npm = ['sbom', '--sbom-format=cyclonedx'];
  const bom = JSON.parse(execFileSync('npm', npm, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 28 })) as CycloneDx;
  const shipped = new Set(packages.map(({ name, version }) => `${name}@${version}`));
  const kept = bom.components.filter(({ name, version }) => shipped.has(`${name}@${version}`));
  const added = [...debian.map(debianComponent), nodeComponent()];
  const refs = new Set([...kept, ...added].map((component) => component['bom-ref']));
  const root = String(bom.metadata.component['bom-ref']);
  delete bom.serialNumber;
  delete bom.metadata.timestamp;
  bom.metadata.component = { ...bom.metadata.component, type: 'container', name: 'guildhall' };
  bom.components = [...kept, ...added].toSorted((a, b) => (a['bom-ref'] < b['bom-ref'] ? -1 : 1));
  bom.dependencies = [
    { ref: root, dependsOn: [...refs].toSorted() },
    ...bom.dependencies
      .filter(({ ref }) => refs.has(ref))
      .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((other) => refs.has(other)) })),
  ];
  return bom;
}

function debianComponent({ name, version, architecture }: DebianPackage): Component {
  const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
  return { 'bom-ref': purl, type: 'library', name, version, purl, scope: 'required' };
}

function nodeComponent(): Component {
  const version = process.versions.node;
  const purl = `pkg:generic/node@${version}`;
  // Scanners find Node's advisories by this name.
  const cpe = `cpe:2.3:a:nodejs:node.js:${version}:*:*:*:*:*:*:*`;
  return { 'bom-ref': purl, type: 'application', name: 'node', version, purl, cpe, scope: 'required' };
}
