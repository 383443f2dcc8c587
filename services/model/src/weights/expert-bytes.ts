import { fail } from '@guildhall/common';
import type { Checkpoint, TensorRange } from './checkpoint.ts';
import { expertRanges } from './experts.ts';

/** The bytes of one expert as its checkpoint has them, wherever they came from. */
export class ExpertBytes {
  readonly layer: number;
  readonly expert: number;
  readonly ranges: readonly TensorRange[];
  /** The ranges, one after the other. */
  readonly data: Uint8Array;

  /** @throws internal unless `data` is as long as the ranges are together. */
  constructor(at: { layer: number; expert: number }, ranges: readonly TensorRange[], data: Uint8Array) {
    if (data.length !== rangesSize(ranges)) {
      throw fail('internal', `${data.length} bytes for an expert of ${rangesSize(ranges)}`);
    }
    this.layer = at.layer;
    this.expert = at.expert;
    this.ranges = ranges;
    this.data = data;
  }

  /**
   * Reads an expert from the files of a checkpoint, in the background and without mapping them.
   * @throws invalid_value, checkpoint_partial, checkpoint_not_found, checkpoint_invalid.
   */
  static async read(checkpoint: Checkpoint, layer: number, expert: number): Promise<ExpertBytes> {
    const ranges = expertRanges(checkpoint, layer, expert);
    return new ExpertBytes({ layer, expert }, ranges, await checkpoint.read(ranges));
  }

  /** Bytes [begin, end) of a tensor. @throws internal where they do not belong to the expert. */
  bytes(tensor: string, begin: number, end: number): Uint8Array {
    let at = 0;
    for (const range of this.ranges) {
      if (range.tensor === tensor && begin >= range.begin && end <= range.end) {
        return this.data.subarray(at + begin - range.begin, at + end - range.begin);
      }
      at += range.end - range.begin;
    }
    throw fail('internal', `bytes ${begin} to ${end} of ${tensor} are not of expert ${this.expert}`);
  }

  /**
   * Compares with what the checkpoint's outlines know of the same bytes: the samples of its fingerprint.
   * @throws checkpoint_invalid naming the first tensor that differs.
   */
  checkAgainst(checkpoint: Checkpoint): void {
    let at = 0;
    for (const { tensor, begin, end } of this.ranges) {
      const differs = checkpoint.differsFromSamples(tensor, begin, this.data.subarray(at, at + end - begin));
      if (differs !== null) {
        throw fail('checkpoint_invalid', `${tensor}: byte ${differs} is not that of the model's fingerprint`);
      }
      at += end - begin;
    }
  }
}

/** Bytes of ranges together. */
export function rangesSize(ranges: readonly TensorRange[]): number {
  return ranges.reduce((sum, { begin, end }) => sum + end - begin, 0);
}
