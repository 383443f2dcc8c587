import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ROOT } from '../harness/service-process.ts';

/** What the chart puts in for the words between @ signs, as its values have them by default. */
const DEFAULTS: Readonly<Record<string, string>> = {
  RUNBOOKS: 'docs/alerts.md',
  TTFT_SECONDS: '2.5',
  ITL_SECONDS: '0.1',
  ALLOWED: '0.01',
};

export interface Rule {
  alert?: string;
  record?: string;
  expr: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

/** The rules as Prometheus gets them. */
export function rulesText(): string {
  const file = join(ROOT, 'charts', 'guildhall', 'files', 'alerts', 'guildhall.yaml');
  return readFileSync(file, 'utf8').replace(/@([A-Z_]+)@/g, (word, name: string) => DEFAULTS[name] ?? word);
}

/** Every rule of every group. */
export function rules(): Rule[] {
  return (parse(rulesText()) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
}
