/** The pools of the native addon: keys and values in pages, DeltaNet states in slots. Rules of `native.ts` hold. */

import type { KvFormat } from './native.ts';

export interface KvPoolOptions {
  numPages: number;
  /** Full-attention layers. */
  numLayers: number;
  numKvHeads: number;
  headDim: number;
  format: KvFormat;
}

/** Pages out of a KvPool; each part is memory of its own. */
export interface PageExport {
  parts: Buffer[];
  /** CRC-32C of each part. */
  checksums: Uint32Array;
}

/** A state out of a StatePool, with its CRC-32C. */
export interface StateExport {
  data: Buffer;
  checksum: number;
}

/** Pages of 64 tokens of K and V over all full-attention layers; format and kernel arrange them. */
export interface KvPool {
  readonly numPages: number;
  readonly pageBytes: number;
  /** Copies whole pages over all layers. */
  copyPages(from: Int32Array, to: Int32Array): void;
  /**
   * Bytes of pages over all layers, in a layout that only the same class reads, with their CRC-32C. Part j holds the
   * `group` consecutive entries of `pages` from j * group on; `pages` has a multiple of them. Copied on the background
   * thread, beside forwards: nobody may write the pages before it resolves.
   */
  exportPages(pages: Int32Array, group: number): Promise<PageExport>;
  /**
   * Fills pages from parts of pages.length / parts.length pages each, on the decode lane in jobs of about a millisecond
   * at most, in turns with steps. The pages belong to nobody else before it resolves, and the parts must not change or be detached; those of
   * resizable buffers are refused.
   */
  importPages(pages: Int32Array, parts: readonly Uint8Array[]): Promise<void>;
}

export interface StatePoolOptions {
  numSlots: number;
  numLayers: number;
  numValueHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  convDim: number;
  convKernel: number;
}

/** DeltaNet states: per slot and layer S [Hv][Dk][Dv] f32 and the last kernel-1 raw convolution inputs. */
export interface StatePool {
  readonly numSlots: number;
  readonly slotBytes: number;
  reset(slot: number): void;
  copy(from: number, to: number): void;
  /** As exportPages: nobody may write the slot before it resolves. */
  exportState(slot: number): Promise<StateExport>;
  /** As importPages. */
  importState(slot: number, data: Uint8Array): Promise<void>;
}
