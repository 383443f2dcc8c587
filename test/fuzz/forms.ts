import type { Random } from './random.ts';
import { MODEL } from './samples.ts';
import { anyText } from './texts.ts';

export interface Form {
  contentType: string;
  body: Buffer;
}

const LINE = JSON.stringify({
  custom_id: 'a',
  method: 'POST',
  url: '/v1/completions',
  body: { model: MODEL, prompt: 'Hi', max_tokens: 4 },
});
const CONTENTS = [
  '',
  'x',
  LINE,
  `${LINE}\nnot json\n${LINE.replace('"a"', '"b"')}\n`,
  '\0\xff\r\n--',
  `${LINE}\n${LINE}`,
];
const BOUNDARIES = ['----x', 'a', "'()+_,-./:=?", 'x'.repeat(70), 'x'.repeat(300), '', ' ', 'é'];
const CRLF = '\r\n';

function part(headers: string[], body: Buffer | string): (Buffer | string)[] {
  return [headers.join(CRLF), CRLF, CRLF, body, CRLF];
}

function field(name: string, value: string): (Buffer | string)[] {
  return part([`content-disposition: form-data; name="${name}"`], value);
}

/** A text as it stands in a quoted parameter of a header, or not. */
function quoted(random: Random, text: string): string {
  return random.chance(0.7) ? text.replace(/["\\\r\n\0]/g, '') : text;
}

function file(random: Random, named: boolean): (Buffer | string)[] {
  const filename = quoted(random, random.chance(0.5) ? 'in.jsonl' : anyText(random));
  const disposition = `content-disposition: form-data; name="file"${named ? `; filename="${filename}"` : ''}`;
  const type = random.pick([
    'application/jsonl',
    'application/octet-stream',
    'text/plain; charset=utf-16',
    ';;',
    'application/json',
  ]);
  const content = random.chance(0.02) ? 'x'.repeat(3_000_000) : random.pick(CONTENTS);
  return part([disposition, `content-type: ${type}`], Buffer.from(content, 'latin1'));
}

/** Parts that a form of this API may have, in the order in which they are sent. */
function rightParts(random: Random, path: string): (Buffer | string)[][] {
  if (path.endsWith('/parts'))
    return [part(['content-disposition: form-data; name="data"; filename="blob"'], 'a part')];
  const parts = [file(random, true), field('purpose', random.pick(['batch', 'batch', 'user_data', 'evals']))];
  if (random.chance(0.2))
    parts.push(field('expires_after[anchor]', 'created_at'), field('expires_after[seconds]', '3600'));
  return random.chance(0.5) ? parts : parts.toReversed();
}

const BREAKAGES = {
  missing: 3,
  twice: 2,
  unnamed: 2,
  field: 3,
  many: 1,
  json: 1,
  huge: 1,
  prototype: 1,
  headers: 2,
  noDisposition: 1,
  encoding: 1,
};

function brokenParts(random: Random, path: string): (Buffer | string)[][] {
  const parts = rightParts(random, path);
  switch (random.weighted(BREAKAGES)) {
    case 'missing':
      return random.some(parts, parts.length - 1);
    case 'twice':
      return [...parts, ...parts];
    case 'unnamed':
      return [file(random, false), ...parts.slice(1)];
    case 'field':
      return [...parts, field(quoted(random, anyText(random)), anyText(random))];
    case 'many':
      return Array.from({ length: random.pick([9, 11, 500]) }, () => field('purpose', 'batch'));
    case 'json':
      return [
        ...parts,
        part(['content-disposition: form-data; name="purpose"', 'content-type: application/json'], '{"a":'),
      ];
    case 'huge':
      return [field('purpose', 'x'.repeat(random.pick([1024, 1025, 200_000]))), ...parts];
    case 'prototype':
      return [field(random.pick(['__proto__', 'constructor', 'toString']), 'x'), ...parts];
    case 'headers':
      return [
        part([`content-disposition: form-data; name="${'n'.repeat(random.pick([300, 90_000]))}"`], 'x'),
        ...parts,
      ];
    case 'noDisposition':
      return [
        part([random.pick(['x: y', 'content-disposition: form-data', 'content-disposition: x; name'])], 'z'),
        ...parts,
      ];
    case 'encoding':
      return [
        part(['content-disposition: form-data; name="file"; filename="a"', 'content-transfer-encoding: base64'], '%%%'),
        ...parts,
      ];
  }
}

/** Parts between boundaries, with the closing one unless the form is cut off. */
function joined(parts: (Buffer | string)[][], boundary: string, end: string): Buffer {
  const pieces = parts.flatMap((one) => [`--${boundary}${CRLF}`, ...one]);
  return Buffer.concat([...pieces, `--${boundary}${end}`].map((piece) => Buffer.from(piece)));
}

export function rightForm(random: Random, path: string): Form {
  return {
    contentType: 'multipart/form-data; boundary=----x',
    body: joined(rightParts(random, path), '----x', `--${CRLF}`),
  };
}

/** A form that is wrong in its parts, its boundary or its end. */
export function brokenForm(random: Random, path: string): Form {
  const how = random.weighted({ parts: 6, boundary: 2, end: 2, cut: 2, type: 2, junk: 1 });
  const body = joined(how === 'parts' ? brokenParts(random, path) : rightParts(random, path), '----x', `--${CRLF}`);
  const contentType = 'multipart/form-data; boundary=----x';
  switch (how) {
    case 'boundary': {
      const boundary = random.pick(BOUNDARIES);
      return {
        contentType: `multipart/form-data; boundary="${boundary}"`,
        body: random.chance(0.5) ? body : joined(rightParts(random, path), boundary, '--'),
      };
    }
    case 'end':
      return {
        contentType,
        body: joined(rightParts(random, path), '----x', random.pick(['', '-', `${CRLF}${CRLF}`, '--trailing', CRLF])),
      };
    case 'cut':
      return { contentType, body: body.subarray(0, random.below(body.length)) };
    case 'type':
      return {
        contentType: random.pick([
          'multipart/form-data',
          'multipart/mixed; boundary=----x',
          'multipart/form-data; boundary',
          'multipart/form-data; boundary=',
          'application/x-www-form-urlencoded',
        ]),
        body,
      };
    case 'junk':
      return { contentType, body: Buffer.from(anyText(random)) };
    case 'parts':
      return { contentType, body };
  }
}
