import type { FieldReader, Range } from './fields.ts';
import type { RopeConfig } from './types.ts';

const THETA: Range = { min: 1.0001, max: 1e15 };
const FACTOR: Range = { min: 1e-3, max: 1e6 };
const LENGTH: Range = { min: 1, max: 2 ** 31 };

/** What rope needs to know of the rest of the config. */
export interface RopeContext {
  headDim: number;
  maxPositionEmbeddings: number;
  /** Rotated share of a head where the file does not say; null makes the field required. */
  defaultPartialFactor: number | null;
  /** Media positions are used: the sections of the axes must be known. */
  needsSections: boolean;
  notices: string[];
}

/**
 * Rope fields live in `rope_parameters` (possibly once per layer type), in `rope_scaling`, or flat in the config:
 * the first of the three that has a field wins.
 */
class RopeFields {
  readonly places: FieldReader[];

  constructor(text: FieldReader) {
    const parameters = text.child('rope_parameters');
    const own = parameters?.has('full_attention') ? parameters.child('full_attention') : parameters;
    this.places = [own, text.child('rope_scaling'), text].filter((place) => place !== null && place !== undefined);
  }

  /** Where a field is, or where it would be looked for first. */
  at(name: string): FieldReader {
    return this.places.find((place) => place.has(name)) ?? (this.places[0] as FieldReader);
  }
}

/** Reads the rotary embedding of the full-attention layers. @throws checkpoint_invalid naming the field. */
export function parseRope(text: FieldReader, context: RopeContext): RopeConfig {
  const fields = new RopeFields(text);
  const theta = fields.at('rope_theta').number('rope_theta', THETA);
  const rotaryDim = parseRotaryDim(fields, context);
  const scaled = scaleFrequencies(fields, theta, rotaryDim, context);
  const freqAxis = parseAxes(fields, rotaryDim / 2, context);
  return { theta, rotaryDim, freqAxis, ...scaled };
}

function parseRotaryDim(fields: RopeFields, context: RopeContext): number {
  const place = fields.at('partial_rotary_factor');
  const range = { min: 0.001, max: 1 };
  const factor =
    place.optionalNumber('partial_rotary_factor', range) ??
    context.defaultPartialFactor ??
    place.number('partial_rotary_factor', range);
  const rotaryDim = Math.floor(context.headDim * factor);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0) {
    throw place.invalid('partial_rotary_factor', `an even, positive share of head_dim ${context.headDim}`);
  }
  return rotaryDim;
}

/** theta^(2j/dim), rounded to f32 in the same places as the reference, so that large positions give the same angles. */
function wavelengths(theta: number, rotaryDim: number): Float32Array {
  return Float32Array.from({ length: rotaryDim / 2 }, (_, j) => Math.pow(theta, Math.fround((2 * j) / rotaryDim)));
}

function scaleFrequencies(
  fields: RopeFields,
  theta: number,
  rotaryDim: number,
  context: RopeContext,
): { invFreq: Float32Array; scale: number; positions: number } {
  const positions = context.maxPositionEmbeddings;
  const place = fields.at(fields.at('rope_type').has('rope_type') ? 'rope_type' : 'type');
  const type = place.optionalString('rope_type') ?? place.optionalString('type') ?? 'default';
  const periods = wavelengths(theta, rotaryDim);
  const base = periods.map((period) => 1 / period);
  // 'mrope' is how older files of the family say 'default, with sections'.
  if (type === 'default' || type === 'mrope') return { invFreq: base, scale: 1, positions };
  if (type === 'linear') {
    const factor = fields.at('factor').number('factor', FACTOR);
    return { invFreq: base.map((frequency) => frequency / factor), scale: 1, positions };
  }
  if (type === 'yarn') return yarn(fields, theta, periods, context);
  throw place.invalid(place.has('rope_type') ? 'rope_type' : 'type', '"default", "linear" or "yarn"');
}

/**
 * YaRN (Peng et al., arXiv 2309.00071) as the reference computes it: a ramp from extrapolation to interpolation. A file whose
 * `max_position_embeddings` is beyond the original one states the context itself; where it is still the original one, which
 * is how model cards switch YaRN on, the context is the original times the factor, as in vLLM.
 */
function yarn(
  fields: RopeFields,
  theta: number,
  periods: Float32Array,
  context: RopeContext,
): { invFreq: Float32Array; scale: number; positions: number } {
  const rotaryDim = 2 * periods.length;
  const original =
    fields.at('original_max_position_embeddings').optionalInt('original_max_position_embeddings', LENGTH) ??
    context.maxPositionEmbeddings;
  const factor = fields.at('factor').optionalNumber('factor', FACTOR) ?? context.maxPositionEmbeddings / original;
  const betaFast = fields.at('beta_fast').optionalNumber('beta_fast', FACTOR) ?? 32;
  const betaSlow = fields.at('beta_slow').optionalNumber('beta_slow', FACTOR) ?? 1;
  const truncate = fields.at('truncate').optionalBool('truncate') ?? true;

  const dimensionOf = (rotations: number): number =>
    (rotaryDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(betaFast);
  let high = dimensionOf(betaSlow);
  if (truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, rotaryDim - 1);
  if (low === high) high += 0.001;

  const { fround } = Math;
  const invFreq = periods.map((period, j) => {
    const ramp = Math.min(Math.max(fround(fround(j - low) / fround(high - low)), 0), 1);
    const extrapolated = fround(1 - ramp);
    const interpolation = fround(fround(1 / fround(factor * period)) * fround(1 - extrapolated));
    return interpolation + fround(fround(1 / period) * extrapolated);
  });
  const { maxPositionEmbeddings } = context;
  const positions = maxPositionEmbeddings > original ? maxPositionEmbeddings : Math.floor(original * factor);
  return { invFreq, scale: attentionFactor(fields, factor), positions };
}

function attentionFactor(fields: RopeFields, factor: number): number {
  const given = fields.at('attention_factor').optionalNumber('attention_factor', FACTOR);
  if (given !== null) return given;
  const magnitude = (scale: number): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const mscale = fields.at('mscale').optionalNumber('mscale', { min: 0, max: 1e6 });
  const mscaleAll = fields.at('mscale_all_dim').optionalNumber('mscale_all_dim', { min: 0, max: 1e6 });
  return mscale && mscaleAll ? magnitude(mscale) / magnitude(mscaleAll) : magnitude(1);
}

/**
 * Interleaved sections: frequency j is the height's if j % 3 == 1 and j < 3 * section[1], the width's if j % 3 == 2
 * and j < 3 * section[2], else the temporal axis'. Sections larger than the frequencies clip, as slices do.
 */
function parseAxes(fields: RopeFields, numFreqs: number, context: RopeContext): Int32Array {
  const place = fields.at('mrope_section');
  const sections = place.optionalArray('mrope_section');
  const axes = new Int32Array(numFreqs);
  if (sections === null) {
    if (context.needsSections) throw place.invalid('mrope_section', 'three section lengths');
    return axes;
  }
  const valid =
    sections.length === 3 && sections.every((n) => Number.isInteger(n) && Number(n) >= 0 && Number(n) < 4096);
  if (!valid) throw place.invalid('mrope_section', 'three section lengths from 0 to 4095');
  const interleaved = fields.at('mrope_interleaved');
  if (interleaved.optionalBool('mrope_interleaved') === false) {
    throw interleaved.invalid('mrope_interleaved', 'true: sections in blocks are not part of this family');
  }
  const [, height, width] = sections as [number, number, number];
  const sum = (sections as number[]).reduce((total, n) => total + n, 0);
  if (sum !== numFreqs) {
    context.notices.push(
      `${place.pathOf('mrope_section')} sums to ${sum}, not to the ${numFreqs} frequencies; it is clipped to them`,
    );
  }
  for (let j = 0; j < numFreqs; j++) {
    if (j % 3 === 1 && j < 3 * height) axes[j] = 1;
    if (j % 3 === 2 && j < 3 * width) axes[j] = 2;
  }
  return axes;
}
