import { readTensors, writeCheckpoint } from '../vectors/lib/rewrite-checkpoint.ts';

const EMBEDDING = 'model.language_model.embed_tokens.weight';

/**
 * Writes a copy of a checkpoint in which some token ids have no embedding but NaN: a prompt with one of them breaks every
 * step that it is in, and nothing else does.
 */
export function writePoisonedCheckpoint(from: string, to: string, poison: readonly number[]): void {
  const tensors = readTensors(from);
  const embedding = tensors.get(EMBEDDING);
  if (embedding?.dtype !== 'BF16') throw new TypeError(`${from} has no embedding in BF16`);
  const [rows = 0, columns = 0] = embedding.shape;
  const data = Uint8Array.from(embedding.data);
  const values = new Uint16Array(data.buffer);
  for (const id of poison) {
    if (id >= rows) throw new TypeError(`${from} has no token ${id}`);
    values.fill(0x7fc0, id * columns, (id + 1) * columns);
  }
  tensors.set(EMBEDDING, { ...embedding, data });
  writeCheckpoint(from, to, tensors, 1);
}
