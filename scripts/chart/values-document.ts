import { isMap, isScalar, isSeq, parseDocument, type Pair, type YAMLMap } from 'yaml';

/** One value of values.yaml. */
export interface ValueRow {
  path: string[];
  /** The default as JSON. */
  default: string;
  description: string;
}

/** Text behind `# --` right above a key; null where there is none. */
function described(pair: Pair, firstOf: YAMLMap | null): string | null {
  const own = isScalar(pair.key) ? pair.key.commentBefore : null;
  const lines = (own ?? firstOf?.commentBefore ?? '').split('\n');
  const at = lines.findLastIndex((line) => line.startsWith(' -- '));
  return at === -1 ? null : lines.slice(at).join(' ').replace(/^ -- /, '').trim();
}

function walk(map: YAMLMap, path: string[], rows: ValueRow[]): void {
  for (const [index, pair] of map.items.entries()) {
    const here = [...path, String((pair.key as { value: unknown }).value)];
    const description = described(pair, index === 0 ? map : null);
    if (description !== null) {
      const value: unknown =
        isMap(pair.value) || isSeq(pair.value) ? pair.value.toJSON() : (pair.value as { value: unknown }).value;
      rows.push({ path: here, default: JSON.stringify(value), description });
    } else if (isMap(pair.value)) walk(pair.value, here, rows);
    else throw new Error(`values.yaml: ${here.join('.')} has no comment that starts with "# -- "`);
  }
}

/** Every value with a `# --` comment, in its order. Throws for a file that is no YAML, and for a value that
 * has none, nor further values in it. */
export function valueRows(text: string): ValueRow[] {
  const document = parseDocument(text);
  const [error] = document.errors;
  if (error !== undefined) throw error;
  const rows: ValueRow[] = [];
  walk(document.contents as YAMLMap, [], rows);
  return rows;
}
