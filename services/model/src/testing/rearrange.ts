import type { RawTensor } from './safetensors-writer.ts';

function rowBytes(tensor: RawTensor): number {
  return tensor.data.length / (tensor.shape[0] as number);
}

function rows(tensor: RawTensor, name: string, first: number, count: number): RawTensor {
  const size = rowBytes(tensor);
  return {
    ...tensor,
    name,
    shape: [count, ...tensor.shape.slice(1)],
    data: tensor.data.subarray(first * size, (first + count) * size),
  };
}

/** The same weights with every expert in tensors of its own. */
export function separateExperts(tensors: readonly RawTensor[]): RawTensor[] {
  return tensors.flatMap((tensor) => {
    const prefix = /^(.*\.mlp\.experts\.)(gate_up|down)_proj$/.exec(tensor.name);
    if (prefix === null) return [tensor];
    const [numExperts, numRows, columns] = tensor.shape as [number, number, number];
    const size = tensor.data.length / numExperts;
    return Array.from({ length: numExperts }, (_, e) => {
      const own = { ...tensor, shape: [numRows, columns], data: tensor.data.subarray(e * size, (e + 1) * size) };
      const name = (projection: string): string => `${prefix[1]}${e}.${projection}_proj.weight`;
      if (prefix[2] === 'down') return [{ ...own, name: name('down') }];
      return [rows(own, name('gate'), 0, numRows / 2), rows(own, name('up'), numRows / 2, numRows / 2)];
    }).flat();
  });
}

/** The same weights with the DeltaNet projections grouped by key head, as qwen3_next stores them. */
export function groupProjections(
  tensors: readonly RawTensor[],
  sizes: { keyHeads: number; valueHeads: number; keyDim: number; valueDim: number },
): RawTensor[] {
  const { keyHeads, valueHeads, keyDim, valueDim } = sizes;
  const ratio = valueHeads / keyHeads;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return tensors.flatMap((tensor) => {
    const prefix = /^(.*\.linear_attn\.)in_proj_(qkv|z|b|a)\.weight$/.exec(tensor.name);
    if (prefix === null) return [tensor];
    if (prefix[2] !== 'qkv') return [];
    const part = (name: string): RawTensor => byName.get(`${prefix[1]}in_proj_${name}.weight`) as RawTensor;
    const qkvz: RawTensor[] = [];
    const ba: RawTensor[] = [];
    for (let head = 0; head < keyHeads; head++) {
      qkvz.push(rows(part('qkv'), '', head * keyDim, keyDim));
      qkvz.push(rows(part('qkv'), '', (keyHeads + head) * keyDim, keyDim));
      qkvz.push(rows(part('qkv'), '', 2 * keyHeads * keyDim + head * ratio * valueDim, ratio * valueDim));
      qkvz.push(rows(part('z'), '', head * ratio * valueDim, ratio * valueDim));
      ba.push(rows(part('b'), '', head * ratio, ratio), rows(part('a'), '', head * ratio, ratio));
    }
    return [stack(`${prefix[1]}in_proj_qkvz.weight`, qkvz), stack(`${prefix[1]}in_proj_ba.weight`, ba)];
  });
}

function stack(name: string, parts: RawTensor[]): RawTensor {
  const [first] = parts as [RawTensor];
  const count = parts.reduce((total, part) => total + (part.shape[0] as number), 0);
  return {
    ...first,
    name,
    shape: [count, ...first.shape.slice(1)],
    data: Buffer.concat(parts.map((part) => part.data)),
  };
}

/** The same weights with FP8 matrices written out as F32. */
export function dequantise(tensors: readonly RawTensor[]): RawTensor[] {
  const scales = new Map(
    tensors.filter(({ name }) => name.endsWith('_scale_inv')).map((tensor) => [tensor.name, tensor]),
  );
  return tensors
    .filter(({ name }) => !scales.has(name))
    .map((tensor) => {
      const scale = scales.get(`${tensor.name}_scale_inv`);
      if (tensor.dtype !== 'F8_E4M3' || scale === undefined) return tensor;
      const [numRows, columns] = tensor.shape.slice(-2) as [number, number];
      const [blockRows, blockColumns] = scale.shape.slice(-2) as [number, number];
      const halves = new Uint16Array(scale.data.slice().buffer);
      const values = Float32Array.from(tensor.data, (byte, i) => {
        const matrix = Math.floor(i / (numRows * columns));
        const row = Math.floor(i / columns) % numRows;
        const block = (matrix * blockRows + Math.floor(row / 128)) * blockColumns + Math.floor((i % columns) / 128);
        return fp8(byte) * bf16(halves[block] as number);
      });
      return { ...tensor, dtype: 'F32', data: new Uint8Array(values.buffer) };
    });
}

/** Value of an F8_E4M3 code that is no NaN. */
export function fp8(byte: number): number {
  const exponent = (byte >> 3) & 15;
  const mantissa = (byte & 7) / 8;
  const magnitude = exponent === 0 ? mantissa * 2 ** -6 : (1 + mantissa) * 2 ** (exponent - 7);
  return byte & 0x80 ? -magnitude : magnitude;
}

/** Value of a BF16 code. */
export function bf16(half: number): number {
  return new Float32Array(Uint32Array.of(half << 16).buffer)[0] as number;
}
