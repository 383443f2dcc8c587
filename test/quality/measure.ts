/**
 * Measures what weight formats do to the answers of `models/tiny`: the figures of docs/quantisation.md.
 *
 *   node test/quality/measure.ts [--json] [--base bf16] [--formats fp8,q8,q4] [--sets chat,recall] [--limit ROWS]
 *
 * Progress goes to stderr; stdout is a table, or with `--json` one object `{schema, base, rows}`.
 */
import { parseArgs } from 'node:util';
import { WEIGHT_FORMATS } from '@guildhall/model';
import type { WeightFormat } from '@guildhall/native';
import { compareFormats, type FormatQuality } from './compare.ts';
import { evalTexts } from './texts.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    base: { type: 'string', default: 'bf16' },
    formats: { type: 'string', default: 'fp8,q8,q4' },
    sets: { type: 'string', default: 'chat,recall' },
    limit: { type: 'string', default: 'Infinity' },
    threads: { type: 'string', default: '2' },
  },
});

function format(name: string): WeightFormat {
  const found = WEIGHT_FORMATS.find((known) => known === name);
  if (found === undefined) throw new TypeError(`'${name}' is none of ${WEIGHT_FORMATS.join(', ')}`);
  return found;
}

function set(name: string): 'chat' | 'recall' {
  if (name === 'chat' || name === 'recall') return name;
  throw new TypeError(`'${name}' is neither chat nor recall`);
}

function table(rows: readonly FormatQuality[]): string {
  const cell = (value: number): string => value.toExponential(2).padStart(10);
  const share = (value: number): string => `${(value * 100).toFixed(2)} %`.padStart(10);
  const lines = rows.map(({ weights, base, all, answers, sameAnswers }) =>
    [
      `${weights} against ${base}`.padEnd(18),
      cell(all.klMean),
      cell(all.klP99),
      cell(all.klMax),
      cell(answers.klMean),
      share(all.sameTop),
      share(answers.sameTop),
      share(sameAnswers),
    ].join(' '),
  );
  const headings = ['KL mean', 'KL p99', 'KL max', 'answers', 'top all', 'answers', 'same text'];
  return `${[`${''.padEnd(18)} ${headings.map((text) => text.padStart(10)).join(' ')}`, ...lines].join('\n')}\n`;
}

const base = format(values.base);
const texts = await evalTexts(values.sets.split(',').map(set), Number(values.limit));
const rows = await compareFormats(texts, base, values.formats.split(',').map(format), {
  threads: Number(values.threads),
  onProgress: (done, total) => process.stderr.write(`${done} of ${total} conversations\n`),
});
process.stdout.write(values.json ? `${JSON.stringify({ schema: 'guildhall.quality/1', base, rows })}\n` : table(rows));
