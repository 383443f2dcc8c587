import { errorMessage } from '@guildhall/common';
import { control } from '@guildhall/proto';

/** Shape of the experts of the served model. */
export interface ExpertShape {
  numLayers: number;
  numExperts: number;
}

/** A load report that fits the model. */
export interface LoadFacts {
  /** Tokens, [layer*numExperts+expert]. */
  tokens: Float64Array;
  /** Sampled sets, by layer: u16[n][topK]; left out where there are none. */
  sets: Map<number, Uint16Array>;
  /** 0 where the reporter does not know. */
  topK: number;
  steps: number;
  /** 0 in reports of older releases. */
  sequence: number;
}

/** Reads a report, or says why it does not count. */
export function readReport(bytes: Uint8Array, shape: ExpertShape): LoadFacts | string {
  let report: control.LoadReport;
  try {
    report = control.LoadReport.decode(bytes);
  } catch (err) {
    return `it cannot be read: ${errorMessage(err)}`;
  }
  const { numLayers, numExperts } = shape;
  const tokens = new Float64Array(numLayers * numExperts);
  const sets = new Map<number, Uint16Array>();
  for (const load of report.layers) {
    if (load.layer >= numLayers || load.tokens.length !== numExperts)
      return `layer ${load.layer} with ${load.tokens.length} experts is not of this model`;
    for (const [expert, count] of load.tokens.entries()) tokens[load.layer * numExperts + expert] = Number(count);
    if (load.samples.length === 0) continue;
    const read = readSets(load.samples, report.topK, numExperts);
    if (read === null) return `the sampled sets of layer ${load.layer} do not fit`;
    sets.set(load.layer, read);
  }
  return { tokens, sets, topK: report.topK, steps: Number(report.steps), sequence: Number(report.sequence) };
}

function readSets(bytes: Uint8Array, topK: number, numExperts: number): Uint16Array | null {
  if (topK < 1 || topK > numExperts || bytes.length % (2 * topK) !== 0) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const sets = Uint16Array.from({ length: bytes.length / 2 }, (_, at) => view.getUint16(at * 2, true));
  return sets.every((expert) => expert < numExperts) ? sets : null;
}
