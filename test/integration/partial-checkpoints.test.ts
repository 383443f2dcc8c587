import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Checkpoint, OUTLINE_SUFFIX, SAMPLE_BYTES, sampleOffsets, writeOutline } from '@guildhall/model/weights';
import { Cluster } from '../harness/cluster.ts';
import { TINY } from '../harness/service-process.ts';
import { streamTokens } from '../harness/stream.ts';

const REQUEST = { prompt: 'What is the capital of France?', maxTokens: 16, seed: 1 };
const LAYERS = 8;
let scratch: string;
before(() => (scratch = mkdtempSync(join(tmpdir(), 'guildhall-partial-'))));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** The tiny model with the experts of each layer in a file of their own. */
function layeredTiny(): string {
  const dir = join(scratch, 'whole');
  cpSync(TINY, dir, {
    recursive: true,
    filter: (path) => !/\/(train|eval)(\/|$)|safetensors/.test(path.slice(TINY.length)),
  });
  const checkpoint = Checkpoint.open(TINY);
  const files = new Map<string, string[]>();
  const map: Record<string, string> = {};
  for (const name of checkpoint.names) {
    const layer = /layers\.(\d+)\.mlp\.experts\./.exec(name)?.[1];
    const file = layer === undefined ? 'dense.safetensors' : `experts-${layer}.safetensors`;
    files.set(file, [...(files.get(file) ?? []), name]);
    map[name] = file;
  }
  for (const [file, names] of files) writeFileSync(join(dir, file), encode(checkpoint, names));
  writeFileSync(join(dir, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: map }));
  return dir;
}

function encode(checkpoint: Checkpoint, names: readonly string[]): Buffer {
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const name of names) {
    const { dtype, shape, byteLength } = checkpoint.info(name);
    header[name] = { dtype, shape, data_offsets: [offset, (offset += byteLength)] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...names.map((name) => checkpoint.tensor(name).data)]);
}

/** A copy in which all weight files but the wanted ones are outlines, as `guildhall pull` leaves them. */
function part(whole: string, name: string, wanted: (file: string) => boolean): string {
  const dir = join(scratch, name);
  mkdirSync(dir);
  for (const { name: file } of readdirSync(whole, { withFileTypes: true }).filter((entry) => entry.isFile())) {
    const bytes = readFileSync(join(whole, file));
    if (!file.endsWith('.safetensors') || wanted(file)) writeFileSync(join(dir, file), bytes);
    else {
      const header = { begin: 0, bytes: bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE())) };
      const samples = sampleOffsets(bytes.length).map((begin) => {
        return { begin, bytes: bytes.subarray(begin, begin + SAMPLE_BYTES) };
      });
      writeOutline(join(dir, file + OUTLINE_SUFFIX), { file, size: bytes.length, pieces: [header, ...samples] });
    }
  }
  return dir;
}

test('processes that have their parts of a model only serve the bits of those that have it whole', async () => {
  const whole = layeredTiny();
  const layersOf = (first: number, last: number) => (file: string) => {
    const layer = Number(/^experts-(\d+)/.exec(file)?.[1] ?? NaN);
    return layer >= first && layer <= last;
  };
  const expertModels = [
    part(whole, 'front', layersOf(0, LAYERS / 2 - 1)),
    part(whole, 'back', layersOf(LAYERS / 2, LAYERS - 1)),
  ];
  const router = part(whole, 'router', (file) => file === 'dense.safetensors');
  const answers: unknown[] = [];
  for (const options of [{ model: router, expertModels }, { model: whole }]) {
    const cluster = await Cluster.start({ workers: 2, weights: 'bf16', ...options });
    try {
      answers.push(await streamTokens(cluster, REQUEST));
      if (options.model === router) {
        for (const expert of cluster.experts) {
          assert.ok((await cluster.metric(expert, 'guildhall_expert_rows_total')) > 0, 'each worker served rows');
          assert.doesNotMatch(expert.output, /checkpoint_partial|could not be loaded/);
        }
      }
    } finally {
      await cluster.stop();
    }
  }
  assert.deepEqual(answers[0], answers[1]);
});
