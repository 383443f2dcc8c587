import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from '../harness/service-process.ts';
import { until } from '../harness/wait.ts';

const run = promisify(execFile);

/** The shell blocks of the README, in order. */
const blocks = [...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/```sh\n([\s\S]*?)```/g)].map((match) =>
  (match[1] as string).trim(),
);

function block(start: string): string {
  const found = blocks.find((text) => text.startsWith(start));
  assert.ok(found !== undefined, `the README has a block that starts with '${start}'`);
  return found;
}

let up: ChildProcess;
let output = '';
let url = '';

before(async () => {
  const [program = '', ...args] = block('npm run up').split(' ');
  up = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [up.stdout, up.stderr]) stream?.on('data', (data: Buffer) => (output += data.toString()));
  await until(
    '`npm run up` to print its URL',
    () => /speaks the OpenAI API/.test(output) || up.exitCode !== null,
    180_000,
  );
  assert.equal(up.exitCode, null, output);
  url = /(http:\/\/\S+)\/v1 speaks/.exec(output)?.[1] ?? '';
});
after(async () => {
  up?.kill('SIGINT');
  await until('`npm run up` to end', () => up === undefined || up.exitCode !== null || up.signalCode !== null, 30_000);
});

/** Runs a block as it stands, but for the port where 8000 was taken. */
async function shell(text: string): Promise<string> {
  const { stdout } = await run('sh', ['-c', text.replaceAll('http://127.0.0.1:8000', url)], {
    cwd: ROOT,
    timeout: 60_000,
  });
  return stdout;
}

test('the first answer comes with its speed and the rows of each worker', () => {
  assert.match(output, /tokens\/s/);
  assert.match(output, /expert-1 [1-9]\d*, expert-2 [1-9]\d*/);
});

test('the curl command gets a completion', async () => {
  const completion = JSON.parse(await shell(block('curl'))) as { choices: { message: { content: string } }[] };
  assert.ok((completion.choices[0]?.message.content.length ?? 0) > 0);
});

test('guildhall chat answers', async () => {
  assert.ok((await shell(block('npm run -s guildhall -- chat'))).trim().length > 0);
});

test('guildhall status lists every process and a covered placement', async () => {
  const text = await shell(block('npm run -s guildhall -- status'));
  for (const id of ['gateway-1', 'router-1', 'expert-1', 'expert-2', 'controller-1'])
    assert.match(text, new RegExp(id));
  const [, held, wanted] = /experts held (\d+) of (\d+)/.exec(text) ?? [];
  assert.ok(Number(wanted) > 0);
  assert.equal(held, wanted);
});

test('guildhall doctor finds nothing to fix', async () => {
  assert.doesNotMatch(await shell(block('npm run -s guildhall -- doctor')), /✗/);
});

test('every command has help', async () => {
  for (const command of [
    'up',
    'serve',
    'chat',
    'status',
    'doctor',
    'serve expert',
    'serve router',
    'serve gateway',
    'serve controller',
  ]) {
    assert.match(await shell(`npm run -s guildhall -- ${command} --help`), /Usage|Options/, command);
  }
});
