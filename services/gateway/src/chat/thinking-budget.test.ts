import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Assets } from '../assets.ts';
import type { GatewayConfig } from '../config.ts';
import { tinyAssets } from '../testing/gateway-under-test.ts';
import { thinkingBudget } from './thinking-budget.ts';

test('the closing words are encoded once for each checkpoint, and requests share no list', async () => {
  const tiny = tinyAssets();
  const encoded: string[] = [];
  const encode = async (text: string): Promise<Int32Array> => {
    encoded.push(text);
    return await tiny.tokenizer.encode(text);
  };
  const tokenizer = { encode, tokenToId: (token: string) => tiny.tokenizer.tokenToId(token) };
  const assets = { ...tiny, tokenizer } as unknown as Assets;
  const config = { thinkingEndText: 'Enough.' } as GatewayConfig;
  const prompt = { ids: [], cut: false, insideThink: true };
  const budgetOf = () => thinkingBudget({ assets, config }, { thinking_token_budget: 5 }, prompt);
  const [first, second] = [await budgetOf(), await budgetOf()];
  assert.deepEqual(encoded, ['\n\nEnough.\n']);
  assert.deepEqual(first, second);
  assert.notEqual(first?.endIds, second?.endIds);
  assert.equal(first?.endIds.at(-1), tiny.tokenizer.tokenToId('</think>'));
});
