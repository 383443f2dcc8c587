import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { GateTrace } from './gate-trace.ts';

/** The file that `record.ts` writes. */
export interface RecordedGates {
  model: string;
  numExperts: number;
  topK: number;
  /** Chosen experts of each layer, base64 of u8[tokens][topK], by the kind of prompt. */
  parts: Record<string, string[]>;
}

/** Reads a part of the recorded gates of `tiny`. @throws Error if there is no such part. */
export function recordedTrace(root: string, name: string): GateTrace {
  const file = join(root, 'bench', 'data', 'tiny-gates.json.gz');
  const { parts, numExperts, topK } = JSON.parse(gunzipSync(readFileSync(file)).toString()) as RecordedGates;
  const layers = parts[name]?.map((text) => Uint16Array.from(Buffer.from(text, 'base64')));
  if (layers === undefined) throw new Error(`${file} has no part '${name}'`);
  return { numLayers: layers.length, numExperts, topK, layers };
}
