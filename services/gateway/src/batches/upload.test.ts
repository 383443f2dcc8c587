import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { ServiceProcess } from '../../../../test/harness/service-process.ts';
import { GatewayUnderTest } from '../testing/gateway-under-test.ts';

const dir = mkdtempSync(join(tmpdir(), 'guildhall-upload-'));
let gateway: GatewayUnderTest;
let service: ServiceProcess;
before(async () => {
  gateway = await GatewayUnderTest.start({});
  const env = { GUILDHALL_REDIS: gateway.redis.url, GUILDHALL_CLUSTER: 'test' };
  service = new ServiceProcess({ service: 'batch', args: ['--data-dir', dir, '--max-files', '3'], env });
  await eventually(async () => (await gateway.fetch('/v1/files')).ok, 'the gateway to know the batch service');
});
after(async () => {
  await service.stop();
  await gateway.stop();
  rmSync(dir, { recursive: true, force: true });
});

const FORM = 'multipart/form-data; boundary=x';

function part(head: string, body: string): string {
  return `--x\r\n${head}\r\n\r\n${body}\r\n`;
}

function field(name: string, value: string): string {
  return part(`content-disposition: form-data; name="${name}"`, value);
}

const FILE = part('content-disposition: form-data; name="file"; filename="in.jsonl"', '{}');
const PURPOSE = field('purpose', 'batch');
const END = '--x--\r\n';

interface Answer {
  status: number;
  code: string | undefined;
  param: string | null | undefined;
  filename: string | undefined;
}

async function send(body: string, contentType = FORM): Promise<Answer> {
  const response = await gateway.fetch('/v1/files', body, { headers: { 'content-type': contentType } });
  const { error, filename } = (await response.json()) as {
    error?: { code: string; param: string | null };
    filename?: string;
  };
  return { status: response.status, code: error?.code, param: error?.param, filename };
}

test('forms that are wrong are refused with what is wrong', async () => {
  const wrong: [what: string, body: string, code: string, contentType?: string][] = [
    ['no boundary', `${FILE}${PURPOSE}${END}`, 'invalid_value', 'multipart/form-data'],
    ['another boundary', `${FILE}${PURPOSE}${END}`, 'invalid_value', 'multipart/form-data; boundary=y'],
    ['a boundary that is too long', END, 'invalid_value', `multipart/form-data; boundary=${'x'.repeat(300)}`],
    ['no end', `${FILE}${PURPOSE}`, 'invalid_value'],
    ['cut off within the file', FILE.slice(0, -4), 'invalid_value'],
    ['empty', '', 'missing_field'],
    ['no file', `${PURPOSE}${END}`, 'missing_field'],
    ['no purpose', `${FILE}${END}`, 'missing_field'],
    ['two files', `${FILE}${FILE}${PURPOSE}${END}`, 'invalid_value'],
    ['many fields', `${PURPOSE.repeat(20)}${FILE}${END}`, 'invalid_value'],
    ['a name of prototypes', `${FILE}${field('__proto__', 'x')}${PURPOSE}${END}`, 'unknown_field'],
    ['a file of such a name', `${FILE.replace('"file"', '"constructor"')}${PURPOSE}${END}`, 'unknown_field'],
    ['an unknown field', `${FILE}${field('size', '5')}${PURPOSE}${END}`, 'unknown_field'],
    ['a long value', `${FILE}${field('purpose', `batch${' '.repeat(2000)}`)}${END}`, 'invalid_value'],
    [
      'a field that is no JSON',
      `${FILE}${part('content-disposition: form-data; name="purpose"\r\ncontent-type: application/json', '{')}${END}`,
      'invalid_json',
    ],
    ['a part without a name', `${part('content-disposition: form-data', 'x')}${FILE}${PURPOSE}${END}`, 'unknown_field'],
    ['a file as such a part', `${FILE.replace('name="file"; ', '')}${PURPOSE}${END}`, 'unknown_field'],
    ['a file without a name', `${FILE.replace('; filename="in.jsonl"', '')}${PURPOSE}${END}`, 'missing_field'],
    [
      'one that is a file by its type',
      `${part('content-disposition: form-data; name="file"\r\ncontent-type: application/octet-stream', 'x')}${PURPOSE}${END}`,
      'missing_field',
    ],
  ];
  for (const [what, body, code, contentType] of wrong) {
    const answer = await send(body, contentType);
    assert.deepEqual([answer.status, answer.code], [400, code], what);
  }
  assert.deepEqual(await filesOf(), []);
});

test('a file whose name is cut is cut between characters', async () => {
  const name = `${'x'.repeat(254)}😀`;
  const answer = await send(`${FILE.replace('in.jsonl', name)}${PURPOSE}${END}`);
  assert.equal(answer.status, 200);
  const kept = answer.filename ?? '';
  assert.ok(kept.isWellFormed());
  assert.equal(kept.length, 255);
});

test('something else than a form is refused by its type', async () => {
  for (const contentType of ['application/json', 'text/plain', 'multipart/mixed; boundary=x']) {
    const answer = await send('{}', contentType);
    assert.deepEqual([answer.status, answer.code, answer.param], [415, 'unsupported_media_type', 'content-type']);
  }
});

test('nothing is kept of a file that a tenant has no place for', async () => {
  const body = `${FILE}${PURPOSE}${END}`;
  const statuses: number[] = [];
  for (let i = 0; i < 5; i++) statuses.push((await send(body)).status);
  assert.ok(statuses.includes(200));
  assert.equal(statuses.at(-1), 429);
  assert.equal(readdirSync(join(dir, 'files')).length, 3);
});

async function filesOf(): Promise<unknown[]> {
  return ((await (await gateway.fetch('/v1/files')).json()) as { data: unknown[] }).data;
}
