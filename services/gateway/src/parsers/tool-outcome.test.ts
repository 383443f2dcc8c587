import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toolTable } from '../tools/tool-table.ts';
import { createParser } from './registry.ts';
import { type ToolOutcome, ToolOutcomeParser } from './tool-outcome.ts';

const tools = toolTable([
  { function: { name: 'look', parameters: { type: 'object', properties: { at: { type: 'string' } } } } },
]);
const CALL = '<tool_call>\n<function=look>\n<parameter=at>\nthe river\n</parameter>\n</function>\n</tool_call>';

/** What is told of a text that comes in pieces of `size` characters. */
function outcomesOf(text: string, cut: boolean, size: number): ToolOutcome[] {
  const told: ToolOutcome[] = [];
  const inner = createParser('none', false, { name: 'qwen3_xml', tools, parallel: true, callIds: String });
  const parser = new ToolOutcomeParser(inner, (outcome) => told.push(outcome));
  for (let at = 0; at < text.length; at += size) parser.push(text.slice(at, at + size));
  parser.finish(cut);
  return told;
}

test('each choice is told of once, whatever its pieces', () => {
  const cases: [string, boolean, ToolOutcome][] = [
    [CALL, false, 'calls'],
    [`I look.\n\n${CALL}`, false, 'calls'],
    ['There is a river; 1 < 2.', false, 'text'],
    [CALL.slice(0, CALL.indexOf('river')), true, 'cut'],
    [CALL.replace('look', 'nothing-known'), false, 'malformed'],
    ['<tool_call>\n{broken', false, 'malformed'],
  ];
  for (const [text, cut, outcome] of cases)
    for (const size of [1, 3, text.length])
      assert.deepEqual(outcomesOf(text, cut, size), [outcome], `${text} by ${size}`);
});
