const SUFFIXES: Record<string, number> = {
  '': 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Number that a Kubernetes quantity (`500m`, `2Gi`, `1e3`) stands for. Throws on anything else. */
export function parseQuantity(text: string): number {
  const match = /^([+-]?[\d.]+(?:[eE][+-]?\d+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/.exec(text.trim());
  const scale = SUFFIXES[match?.[2] ?? ''];
  const value = Number(match?.[1]);
  if (match === null || scale === undefined || Number.isNaN(value)) throw new Error(`not a quantity: ${text}`);
  return value * scale;
}

/** A quantity in units of `divisor`, rounded up, as the downward API gives it. */
export function inUnits(text: string, divisor: string | undefined): string {
  const unit = divisor === undefined || divisor === '0' ? 1 : parseQuantity(divisor);
  // 0.1 / 0.001 must not become 101.
  return String(Math.ceil(Number((parseQuantity(text) / unit).toFixed(6))));
}
