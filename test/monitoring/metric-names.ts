import { METRICS, type MetricInfo } from '@guildhall/common';

/** Metrics that are not in our table: those of the Node process, of Prometheus itself, and what rules record. */
const OTHERS = /^(nodejs_|process_|guildhall:|up$)/;
const SERIES = /([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}/g;
const TARGET_LABELS = ['namespace', 'release', 'component', 'pod', 'group', 'job', 'instance'];

function infoOf(name: string): MetricInfo | null {
  const table = METRICS as Record<string, MetricInfo>;
  const base = name.replace(/_(bucket|count|sum)$/, '');
  const histogram = table[base];
  return table[name] ?? (histogram?.type === 'histogram' ? histogram : null);
}

/** What is wrong with the metrics that an expression names: unknown ones, and labels that they do not have. */
export function problemsOf(expr: string): string[] {
  const problems: string[] = [];
  const text = expr.replace(/"[^"]*"/g, (quoted) => quoted.replace(/[{}]/g, '_'));
  for (const [, name = '', matchers = ''] of text.matchAll(SERIES)) {
    if (OTHERS.test(name)) continue;
    const info = infoOf(name);
    if (info === null) {
      problems.push(`${name} is no metric of ours`);
      continue;
    }
    for (const [, label = ''] of matchers.matchAll(/(\w+)\s*[=!]~?\s*"/g)) {
      if (TARGET_LABELS.includes(label) || label === 'le' || label === 'service') continue;
      if (!info.labels.includes(label)) problems.push(`${name} has no label ${label}`);
    }
  }
  return problems;
}

/** Names in an expression that look like metrics of ours but are no word of PromQL. */
export function namesIn(expr: string): string[] {
  const bare = expr.replace(/"[^"]*"/g, '""');
  return [...bare.matchAll(/\b(?:guildhall_\w+|vllm:\w+|gen_ai_\w+)/g)].map(([name]) => name);
}

/** True when the table knows the name. */
export function isKnown(name: string): boolean {
  return OTHERS.test(name) || infoOf(name) !== null;
}
