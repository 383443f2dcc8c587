import { z } from 'zod';
import type { ValueRow } from './values-document.ts';

interface Node {
  properties?: Record<string, Node>;
  items?: Node;
  description?: string;
  [key: string]: unknown;
}

/** Paths whose values have the same meaning as those of another one, longest first. */
const SAME: [RegExp, string][] = [
  [/^expertGroups\.\*\./, 'experts.defaults.'],
  [/^(gateway|router|experts\.defaults|controller|batch)\./, 'pods.'],
];

/** The description of a value, its own or that of the value whose place it takes. */
function descriptionOf(path: string, byPath: ReadonlyMap<string, string>): string | undefined {
  const own = byPath.get(path);
  if (own !== undefined) return own;
  const [pattern, instead] = SAME.find(([start]) => start.test(path)) ?? [];
  return pattern === undefined ? undefined : descriptionOf(path.replace(pattern, instead as string), byPath);
}

/** A pattern as Go's regular expressions have it; null where they cannot say it: the service itself checks it then. */
function goPattern(pattern: string): string | null {
  return /\(\?[=!<]/.test(pattern) ? null : pattern.replaceAll('[^]', '[\\s\\S]');
}

/** Leaves out defaults, which depend on the machine that generates, and bounds of safe integers, which say nothing. */
function tidy(node: Node): void {
  delete node['default'];
  if (node['minimum'] === Number.MIN_SAFE_INTEGER) delete node['minimum'];
  if (node['maximum'] === Number.MAX_SAFE_INTEGER) delete node['maximum'];
  if (typeof node['pattern'] !== 'string') return;
  const pattern = goPattern(node['pattern']);
  if (pattern === null) delete node['pattern'];
  else node['pattern'] = pattern;
}

function describe(node: Node, path: string, byPath: ReadonlyMap<string, string>): void {
  const text = descriptionOf(path, byPath);
  if (text !== undefined) node.description = text;
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    describe(child, path === '' ? name : `${path}.${name}`, byPath);
  }
  if (node.items !== undefined) describe(node.items, `${path}.*`, byPath);
}

/** values.schema.json: what Helm checks values by before it renders anything. */
export function jsonSchema(schema: z.ZodObject, rows: readonly ValueRow[]): string {
  const override = ({ jsonSchema: node }: { jsonSchema: unknown }): void => tidy(node as Node);
  const root = z.toJSONSchema(schema, { target: 'draft-7', io: 'input', unrepresentable: 'any', override }) as Node;
  describe(root, '', new Map(rows.map(({ path, description }) => [path.join('.'), description])));
  root['title'] = 'Values of the Guildhall chart';
  return `${JSON.stringify(root, null, 2)}\n`;
}
