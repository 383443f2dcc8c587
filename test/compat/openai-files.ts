import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import OpenAI, { toFile } from 'openai';
import { until } from '../harness/wait.ts';
import type { Conformance } from './conformance.ts';
import { MESSAGES, MODEL } from './world.ts';

const OVER = new Set(['completed', 'failed', 'expired', 'cancelled']);

function lines(count: number): string {
  const body = { model: MODEL, messages: MESSAGES, max_tokens: 3 };
  const line = (i: number): string =>
    JSON.stringify({ custom_id: `line-${i}`, method: 'POST', url: '/v1/chat/completions', body });
  return Array.from({ length: count }, (_, i) => line(i)).join('\n');
}

async function run(openai: OpenAI, text: string): Promise<OpenAI.Batch> {
  const input = await openai.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' });
  return openai.batches.create({
    input_file_id: input.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
    metadata: { who: 'compat' },
  });
}

/** Files and batches through OpenAI's own client; `batches.test.ts` of the suite integration has owners, faults and refusals. */
export function openaiFiles(suite: Conformance): void {
  const client = 'openai (npm)';
  suite.check(client, 'files', 'create, retrieve, pages of a list, content, delete', async ({ openai }) => {
    const ids: string[] = [];
    for (const name of ['a.txt', 'b.txt', 'c.txt'])
      ids.push((await openai.files.create({ file: await toFile(Buffer.from(name), name), purpose: 'user_data' })).id);
    const [first = ''] = ids;
    assert.equal((await openai.files.retrieve(first)).filename, 'a.txt');
    const listed: string[] = [];
    for await (const { id } of openai.files.list({ purpose: 'user_data', limit: 2, order: 'asc' })) listed.push(id);
    assert.deepEqual(listed, ids);
    assert.equal(await (await openai.files.content(first)).text(), 'a.txt');
    for (const id of ids) assert.equal((await openai.files.delete(id)).deleted, true);
    await assert.rejects(openai.files.retrieve(first), OpenAI.NotFoundError);
  });
  suite.check(
    client,
    'uploads',
    'create, add parts, complete in an order and with an MD5, cancel',
    async ({ openai }) => {
      const pieces = ['{"a": 1}\n', '{"b": ', '2}\n'];
      const text = pieces.join('');
      const wanted = { bytes: text.length, filename: 'in.jsonl', mime_type: 'text/jsonl', purpose: 'batch' } as const;
      const upload = await openai.uploads.create(wanted);
      assert.equal(upload.status, 'pending');
      const part = async (piece: string): Promise<string> => {
        const data = await toFile(Buffer.from(piece), 'part');
        return (await openai.uploads.parts.create(upload.id, { data })).id;
      };
      const ids = await Promise.all(pieces.toReversed().map(part));
      const md5 = createHash('md5').update(text).digest('hex');
      await assert.rejects(openai.uploads.complete(upload.id, { part_ids: ids, md5 }), OpenAI.BadRequestError);
      const { file } = await openai.uploads.complete(upload.id, { part_ids: ids.toReversed(), md5 });
      assert.equal(await (await openai.files.content(file?.id ?? '')).text(), text);
      await openai.files.delete(file?.id ?? '');
      const other = await openai.uploads.create(wanted);
      assert.equal((await openai.uploads.cancel(other.id)).status, 'cancelled');
      await assert.rejects(openai.uploads.complete(other.id, { part_ids: ids }), OpenAI.BadRequestError);
      await assert.rejects(openai.uploads.cancel('upload_none'), OpenAI.NotFoundError);
    },
  );
  suite.check(client, 'batches', 'create, retrieve until completed, output file, list, cancel', async ({ openai }) => {
    const { id } = await run(openai, lines(3));
    const done = await until('the batch to be over', async () => {
      const batch = await openai.batches.retrieve(id);
      return OVER.has(batch.status) ? batch : null;
    });
    assert.deepEqual([done.status, done.request_counts?.completed], ['completed', 3]);
    const output = await (await openai.files.content(done.output_file_id ?? '')).text();
    const rows = output.trim().split('\n');
    assert.equal(rows.length, 3);
    for (const row of rows) {
      const { response } = JSON.parse(row) as { response: { body: OpenAI.Chat.ChatCompletion } };
      assert.equal(response.body.usage?.completion_tokens, 3);
    }
    const other = await run(openai, lines(400));
    const cancelled = await openai.batches.cancel(other.id);
    assert.ok(['cancelling', 'cancelled'].includes(cancelled.status), cancelled.status);
    await until('the batch to be cancelled', async () => OVER.has((await openai.batches.retrieve(other.id)).status));
    const listed: string[] = [];
    for await (const batch of openai.batches.list({ limit: 1 })) listed.push(batch.id);
    assert.deepEqual(listed, [other.id, id]);
  });
}
