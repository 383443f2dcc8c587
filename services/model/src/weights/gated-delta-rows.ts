import type { LinearAttentionConfig } from '../config.ts';

/** Source rows that turn grouped projections into flat ones. */
export interface GroupedRows {
  /** Of `in_proj_qkvz`: all query heads, all key heads, all value heads. */
  qkv: Int32Array;
  /** Of `in_proj_qkvz`: all output-gate heads. */
  z: Int32Array;
  /** Of `in_proj_ba`. */
  b: Int32Array;
  /** Of `in_proj_ba`. */
  a: Int32Array;
}

/**
 * qwen3_next stores the DeltaNet input projections grouped by key head: with r value heads for each key head a group of
 * `in_proj_qkvz` is Dk rows of q, Dk of k, r*Dv of v, r*Dv of z, and a group of `in_proj_ba` is r rows of b, r of a.
 */
export function groupedRows(linear: LinearAttentionConfig): GroupedRows {
  const { numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim } = linear;
  const ratio = numValueHeads / numKeyHeads;
  const valueRows = ratio * valueHeadDim;
  const group = 2 * keyHeadDim + 2 * valueRows;
  const gather = (groupRows: number, offset: number, count: number): number[] =>
    Array.from({ length: numKeyHeads * count }, (_, i) => Math.floor(i / count) * groupRows + offset + (i % count));
  return {
    qkv: Int32Array.from([
      ...gather(group, 0, keyHeadDim),
      ...gather(group, keyHeadDim, keyHeadDim),
      ...gather(group, 2 * keyHeadDim, valueRows),
    ]),
    z: Int32Array.from(gather(group, 2 * keyHeadDim + valueRows, valueRows)),
    b: Int32Array.from(gather(2 * ratio, 0, ratio)),
    a: Int32Array.from(gather(2 * ratio, ratio, ratio)),
  };
}
