/** What the gates of a model chose for tokens one after the other: all that placements are planned from. */

export interface GateTrace {
  numLayers: number;
  numExperts: number;
  topK: number;
  /** Chosen experts of each layer, [tokens][topK] flat; every layer has as many tokens. */
  layers: Uint16Array[];
}

/** Tokens of a trace. */
export function tokensOf({ layers, topK }: GateTrace): number {
  return (layers[0]?.length ?? 0) / topK;
}

/** The tokens from one to another, without copying them. */
export function part(trace: GateTrace, from: number, to: number): GateTrace {
  const { topK } = trace;
  return { ...trace, layers: trace.layers.map((sets) => sets.subarray(from * topK, to * topK)) };
}

/** Tokens of each (layer, expert), [layer*numExperts+expert]. */
export function loadsOf({ layers, numExperts }: GateTrace): Float64Array {
  const loads = new Float64Array(layers.length * numExperts);
  for (const [layer, sets] of layers.entries()) {
    for (const expert of sets) loads[layer * numExperts + expert] = (loads[layer * numExperts + expert] as number) + 1;
  }
  return loads;
}
