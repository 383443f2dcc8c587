import { type Context, createContextKey } from '@opentelemetry/api';
import {
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  type SamplingResult,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace';

const ALWAYS = createContextKey('guildhall.always-sampled');

/** A context whose new traces are recorded whatever the ratio. */
export function alwaysSampled(context: Context): Context {
  return context.setValue(ALWAYS, true);
}

class RootSampler implements Sampler {
  readonly #ratio: Sampler;
  readonly #always = new AlwaysOnSampler();

  constructor(ratio: number) {
    this.#ratio = new TraceIdRatioBasedSampler(ratio);
  }

  shouldSample(...args: Parameters<Sampler['shouldSample']>): SamplingResult {
    const sampler = args[0].getValue(ALWAYS) === true ? this.#always : this.#ratio;
    return sampler.shouldSample(...args);
  }

  toString(): string {
    return `RootSampler{${this.#ratio.toString()}}`;
  }
}

/** A parent's decision, and for new traces the ratio. */
export function makeSampler(ratio: number): Sampler {
  return new ParentBasedSampler({ root: new RootSampler(ratio) });
}
