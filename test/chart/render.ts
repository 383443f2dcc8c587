import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ROOT } from '../harness/service-process.ts';
import { ensurePrograms } from '../k8s/binaries/index.ts';
import type { Manifest } from './manifests.ts';

/** The chart's folder. */
export const CHART = join(ROOT, 'charts', 'guildhall');

/** What a run of helm came to. */
export interface HelmRun {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs helm without a cluster; never throws for what helm refuses. */
export async function helm(args: readonly string[], input?: string): Promise<HelmRun> {
  const programs = await ensurePrograms(['helm']);
  return await new Promise((resolve) => {
    const options = {
      encoding: 'utf8' as const,
      maxBuffer: 64 << 20,
      env: { ...process.env, KUBECONFIG: '/dev/null' },
    };
    const child = execFile(programs.helm, args, options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
    });
    child.stdin?.end(input ?? '');
  });
}

/** How a release is rendered. */
export interface RenderOptions {
  release?: string;
  namespace?: string;
  /** Values files of the chart that come before `values`. */
  profiles?: readonly string[];
  /** Another folder than the chart's own. */
  chart?: string;
}

/** `helm template`, as it is. */
export async function template(values: unknown, options: RenderOptions = {}): Promise<HelmRun> {
  const { release = 'guildhall', namespace = 'models', profiles = [], chart = CHART } = options;
  const files = [...profiles.map((profile) => join(chart, profile)), '-'].flatMap((file) => ['-f', file]);
  return await helm(['template', release, chart, '--namespace', namespace, ...files], JSON.stringify(values));
}

const rendered = new Map<string, Promise<Manifest[]>>();

/** The objects that values give, rendered once in a process. Throws with helm's message when it refuses. */
export async function render(values: unknown, options: RenderOptions = {}): Promise<Manifest[]> {
  const key = JSON.stringify([values, options]);
  const made = rendered.get(key) ?? renderAnew(values, options);
  rendered.set(key, made);
  return structuredClone(await made);
}

async function renderAnew(values: unknown, options: RenderOptions): Promise<Manifest[]> {
  const { code, stdout, stderr } = await template(values, options);
  if (code !== 0) throw new Error(stderr);
  const objects = parseAllDocuments(stdout).map((document) => document.toJS() as Manifest | null);
  return objects.filter((object) => object !== null);
}

/** What helm says against values. Throws when it takes them. */
export async function refusal(values: unknown, options: RenderOptions = {}): Promise<string> {
  const { code, stderr } = await template(values, options);
  if (code === 0) throw new Error(`helm took ${JSON.stringify(values)}`);
  return stderr;
}
