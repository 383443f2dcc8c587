import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { Cluster } from '../harness/cluster.ts';
import { until } from '../harness/wait.ts';
import { Oracle } from './oracle.ts';

/** The key that every client of the suite shows. */
export const KEY = 'compat-key';
export const MODEL = 'tiny';

export const QUESTION = 'What is the capital of France?';
export const MESSAGES = [{ role: 'user' as const, content: QUESTION }];

/** A schema that every client asks for in its own way. */
export const CITY = {
  type: 'object' as const,
  properties: { city: { type: 'string' as const, enum: ['Paris', 'Rome'] }, sure: { type: 'boolean' as const } },
  required: ['city', 'sure'],
  additionalProperties: false as const,
};

/** Fails unless a text is JSON of `CITY`. */
export function isCity(value: unknown): boolean {
  const { city, sure, ...rest } = value as Record<string, unknown>;
  return (city === 'Paris' || city === 'Rome') && typeof sure === 'boolean' && Object.keys(rest).length === 0;
}

/** One cluster for the whole suite, and clients whose answers are held to the types of their packages. */
export interface World {
  cluster: Cluster;
  oracle: Oracle;
  openai: OpenAI;
  anthropic: Anthropic;
  openaiWith: (key: string) => OpenAI;
  anthropicWith: (key: string) => Anthropic;
  stop: () => Promise<void>;
}

export async function startWorld(): Promise<World> {
  const oracle = new Oracle();
  const gatewayArgs = ['--api-key', KEY, '--allow-priority', 'on'];
  const cluster = await Cluster.start({ workers: 1, weights: 'bf16', gatewayArgs });
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-compat-'));
  const stop = async (): Promise<void> => {
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  };
  const openaiWith = (apiKey: string): OpenAI =>
    new OpenAI({ apiKey, baseURL: `${cluster.url}/v1`, maxRetries: 0, timeout: 300_000, fetch: oracle.fetch });
  const anthropicWith = (apiKey: string): Anthropic =>
    new Anthropic({ apiKey, baseURL: cluster.url, maxRetries: 0, timeout: 300_000, fetch: oracle.fetch });
  const openai = openaiWith(KEY);
  try {
    cluster.spawn('batch', ['--id', 'batch-1', '--data-dir', dir]);
    await until('the gateway to know the batch service', async () => (await openai.files.list()).data.length === 0);
    await oracle.settle().catch(() => undefined);
  } catch (error) {
    await stop();
    throw error;
  }
  return { cluster, oracle, openai, anthropic: anthropicWith(KEY), openaiWith, anthropicWith, stop };
}
