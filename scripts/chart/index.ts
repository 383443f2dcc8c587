import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { serviceSchemas } from '../service-schemas.ts';
import { chartFacts } from './facts.ts';
import { jsonSchema } from './json-schema.ts';
import { chartReadme } from './readme.ts';
import { valueRows } from './values-document.ts';
import { valuesSchema } from './values-schema.ts';

const CHART = 'charts/guildhall';

/** The generated files of the chart, by their paths. */
export async function chartFiles(root: string): Promise<Map<string, string>> {
  const services = await serviceSchemas();
  const rows = valueRows(readFileSync(join(root, CHART, 'values.yaml'), 'utf8'));
  return new Map([
    [`${CHART}/values.schema.json`, jsonSchema(valuesSchema(services), rows)],
    [`${CHART}/files/facts.json`, chartFacts(services)],
    [`${CHART}/README.md`, chartReadme(rows)],
  ]);
}
