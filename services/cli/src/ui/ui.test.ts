import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildProgram } from '../program.ts';
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

test('every command has help and a description', () => {
  const program = buildProgram();
  assert.deepEqual(
    program.commands.map((command) => command.name()),
    ['up', 'serve', 'pull', 'chat', 'status', 'cluster', 'join', 'drain', 'events', 'chaos', 'simulate', 'doctor'],
  );
  for (const command of program.commands) {
    assert.ok(command.description().length > 0);
    assert.match(command.helpInformation(), /Usage: guildhall/);
    assert.match(command.helpInformation(), /--json/);
  }
});

test('an unknown option is an error, not a guess', async () => {
  const program = buildProgram();
  for (const command of [program, ...program.commands]) command.configureOutput({ writeErr: () => undefined });
  await assert.rejects(program.parseAsync(['node', 'guildhall', 'status', '--colour']), /unknown option/);
});
