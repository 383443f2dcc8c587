import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildProgram } from '../program.ts';
import { parseBytes } from './bytes.ts';
import { durationMs } from './duration.ts';
import { formatTable } from './table.ts';

test('a table aligns words left and numbers right', () => {
  assert.equal(
    formatTable(
      ['id', 'count'],
      [
        ['expert-1', 7],
        ['e', 12345],
      ],
    ),
    ['id        count', 'expert-1      7', 'e         12345'].join('\n'),
  );
});

test('every command has help and a description', async () => {
  const program = await buildProgram();
  assert.deepEqual(
    program.commands.map((command) => command.name()),
    [
      'up',
      'serve',
      'plan',
      'pull',
      'chat',
      'status',
      'autoscaler',
      'check',
      'cluster',
      'join',
      'drain',
      'events',
      'keys',
      'usage',
      'chaos',
      'simulate',
      'bench',
      'doctor',
    ],
  );
  for (const command of program.commands) {
    assert.ok(command.description().length > 0);
    assert.match(command.helpInformation(), /Usage: guildhall/);
    const json = (one: typeof command): boolean => /--json/.test(one.helpInformation());
    assert.ok(json(command) || (command.commands.length > 0 && command.commands.every(json)), command.name());
  }
});

test('a command that is named is made alone; anything else makes all', async () => {
  const names = async (name: string): Promise<number> => (await buildProgram(name)).commands.length;
  assert.equal(await names('status'), 1);
  const all = await names('--help');
  for (const other of ['statu', 'toString', 'help', '']) assert.equal(await names(other), all);
});

test('an unknown option is an error, not a guess', async () => {
  const program = await buildProgram();
  for (const command of [program, ...program.commands]) command.configureOutput({ writeErr: () => undefined });
  await assert.rejects(program.parseAsync(['node', 'guildhall', 'status', '--colour']), /unknown option/);
});

test('sizes and times are read with their units, and nothing is guessed', () => {
  assert.equal(parseBytes('8GiB'), 8 * 2 ** 30);
  assert.equal(parseBytes('512 MB'), 512 * 2 ** 20);
  assert.equal(parseBytes('7B'), 7);
  for (const text of ['8', 'GiB', '-1GiB', '8XiB', '1.5GiB'])
    assert.throws(() => parseBytes(text), { code: 'config_invalid' });
  assert.equal(durationMs('24h'), 86_400_000);
  assert.equal(durationMs('90s'), 90_000);
  for (const text of ['24', 'h', '0s', '1w', '-5m']) assert.throws(() => durationMs(text), { code: 'config_invalid' });
});
