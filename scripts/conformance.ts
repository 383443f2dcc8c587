/** One line of the conformance table: what the suite `compat` checked with an official client, and found as it should be. */
export interface ConformanceRow {
  client: string;
  feature: string;
  checked: string;
}

/** Written by the suite `compat` with `GUILDHALL_UPDATE_CONFORMANCE=1`. */
export const CONFORMANCE_FILE = 'docs/conformance.json';

const BEGIN = '<!-- conformance: generated from docs/conformance.json by `npm run gen`; do not edit -->';
const END = '<!-- end of conformance -->';

/** The document with the table of `rows` between its markers. Throws where a marker is missing. */
export function withConformance(document: string, rows: readonly ConformanceRow[]): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin) throw new Error('docs/api.md has no place for the conformance table');
  const cells = rows.map((row) => `| ${[row.feature, row.client, row.checked].map(cell).join(' | ')} |`);
  // Rows of one feature stay together, in the order of the first that has it.
  const features = [...new Set(rows.map((row) => row.feature))];
  const sorted = features.flatMap((feature) => cells.filter((_, i) => rows[i]?.feature === feature));
  const table = ['| feature | client | checked |', '| --- | --- | --- |', ...sorted].join('\n');
  return `${document.slice(0, begin)}${BEGIN}\n\n${table}\n\n${document.slice(end)}`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
