/**
 * Builds the container image without a Docker engine.
 *
 *   node scripts/image/main.ts [--json]         OCI layout and unpacked root filesystem under build/image
 *   node scripts/image/main.ts --stage FOLDER   the layers' folders only, as the Dockerfile's stage does
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { APP, BUILD, NODE, ROOT } from './layout.ts';
import { buildLayout, type ImageLabels, OCI, readLayout, ROOTFS, unpack } from './oci.ts';
import { measure } from './size.ts';
import { writeStage } from './stage.ts';

const started = process.hrtime.bigint();
const step = (label: string): void => {
  const seconds = Number((process.hrtime.bigint() - started) / 1_000_000_000n);
  process.stderr.write(`image: [${String(seconds).padStart(3)}s] ${label}\n`);
};

const { values } = parseArgs({ options: { stage: { type: 'string' }, json: { type: 'boolean', default: false } } });
try {
  if (values.stage !== undefined) writeStage(values.stage, step);
  else build(values.json);
} catch (error) {
  process.stderr.write(`image: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

function build(json: boolean): void {
  const context = join(BUILD, 'context');
  writeStage(join(context, 'out'), step);
  step('image: buildah');
  const labels = labelsOf();
  buildLayout(context, labels);
  step('root filesystem: unpacking the layers');
  const image = readLayout(OCI);
  unpack(image, ROOTFS);
  rmSync(context, { recursive: true });
  copyFileSync(join(ROOTFS, APP, 'sbom.cdx.json'), join(BUILD, 'sbom.cdx.json'));
  const size = measure(ROOTFS, [NODE]);
  const here = (path: string): string => relative(process.cwd(), path);
  const report = {
    oci: here(OCI),
    rootfs: here(ROOTFS),
    sbom: here(join(BUILD, 'sbom.cdx.json')),
    digest: image.digest,
    version: labels.version,
    revision: labels.revision,
    bytes: size.bytes,
    bytesWithoutNode: size.bytes - size.apartBytes,
    compressedBytes: image.compressedBytes,
  };
  if (json) return void process.stdout.write(`${JSON.stringify(report)}\n`);
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  process.stdout.write(
    `${report.oci} (${mib(report.compressedBytes)} compressed), ${report.rootfs} (${mib(report.bytes)}, ` +
      `${mib(report.bytesWithoutNode)} without Node)\n${report.digest}\n`,
  );
}

function labelsOf(): ImageLabels {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const git = (...args: string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
  const epoch = Number(process.env['SOURCE_DATE_EPOCH'] ?? git('log', '-1', '--format=%ct'));
  return { version, revision: git('rev-parse', 'HEAD'), epoch };
}
