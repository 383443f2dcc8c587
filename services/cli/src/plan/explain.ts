import type { Evaluation } from './evaluate.ts';
import { numWorkers, spreadOf } from './layout.ts';
import { fullLayers } from './pass.ts';
import type { PlanRequest } from './request.ts';

/** The formulas of a plan with its numbers in them. */
export function explain(request: PlanRequest, { layout, performance, router }: Evaluation): string {
  const { print, shape, config } = layout.model;
  const lines = [
    'Formulas, with the numbers of this plan (docs/planning.md says where they come from)',
    ...memoryLines(layout.model),
  ];
  if (router === null || performance === null) return `${lines.join('\n')}\n`;
  const { decode, prefill } = performance;
  const { cost, cycle } = decode;
  const us = (ms: number): string => `${(1000 * ms).toFixed(0)} µs`;
  if (numWorkers(layout) > 0) {
    const { workers, copies, topK, numExperts } = spreadOf(layout);
    const rows = decode.streams / decode.microBatches;
    lines.push(
      `workers per token: N = ${workers} that have a layer, E = ${numExperts}, k = ${topK}, ${copies} copies -> m = ${cost.workersPerToken.toFixed(2)}`,
      `messages: N (1 - (1 - m/N)^rows), rows = ${decode.streams.toFixed(1)} streams / ${decode.microBatches} micro-batches = ${rows.toFixed(1)} -> ${cost.messages.toFixed(1)} a layer`,
      `bytes of a layer: out ${cost.outBytes.toFixed(0)}, back ${cost.backBytes.toFixed(0)} (rows of ${print.rowBytes} B; ${layout.combine}: ${layout.combine === 'exact' ? 'a row for each expert' : 'a row for each worker'})`,
    );
  }
  lines.push(
    `a layer of a micro-batch alone: mixer ${us(cost.mixerMs)}, send ${us(cost.sendMs)}, out ${us(cost.outMs)}, wires and wake-ups ${us(cost.latencyMs)}, slowest worker ${us(cost.workerMs)}, back ${us(cost.backMs)}, take ${us(cost.takeMs)}; shared expert ${us(cost.sharedMs)} meanwhile`,
    `with ${decode.microBatches} micro-batches of ${layout.routers} routers and prefill beside them: ${us(cycle.ms)} a layer; busy ${Object.entries(
      cycle.busy,
    )
      .map(([name, share]) => `${name} ${(100 * share).toFixed(0)} %`)
      .join(', ')}`,
    `step = ${shape.numLayers} layers x ${us(cycle.ms)} + head ${decode.headMs.toFixed(2)} ms = ${decode.ms.toFixed(1)} ms`,
    `streams = requests/s x answer x step = ${(performance.requestsPerSecond / layout.routers).toFixed(3)} x ${request.traffic.outputTokens} x ${(decode.ms / 1000).toFixed(4)} s = ${performance.decoding.toFixed(1)} of each router`,
    `prompt = ${prefill.chunks} chunks of ${layout.settings.chunkTokens} tokens x ${shape.numLayers} layers, one after another = ${prefill.ms.toFixed(0)} ms for ${prefill.tokens} tokens; routers compute prompts ${(100 * performance.prefillBusy).toFixed(0)} % of the time`,
    `KV cache: ${router.kvTokens} tokens x ${print.kvTokenBytes} B; full-attention layers ${fullLayers(shape)}, of ${config.numLayers}`,
  );
  return `${lines.join('\n')}\n`;
}

function memoryLines({ print, config }: Evaluation['layout']['model']): string[] {
  const { moe, attention, linear, numLayers } = config;
  const lines = [
    `expert = packed(2 x ${moe.intermediate} x ${config.hidden}) + packed(${config.hidden} x ${moe.intermediate}) in ${print.weights} = ${print.expertBytes} B; all ${numLayers} x ${moe.numExperts} = ${print.allExpertBytes} B`,
    `dense = embedding ${print.embeddingBytes} B + layers + head = ${print.denseBytes} B`,
    `KV a token = full-attention layers x 2 x ${attention.numKvHeads} heads x ${attention.headDim} in ${print.kvFormat} = ${print.kvTokenBytes} B`,
  ];
  if (linear !== null) {
    lines.push(
      `state = recurrent layers x ${linear.numValueHeads} heads x ${linear.keyHeadDim} x ${linear.valueHeadDim} x 4 B = ${print.deltaBytes} B, + convolution ${print.stateBytes - print.deltaBytes} B`,
    );
  }
  return lines;
}
