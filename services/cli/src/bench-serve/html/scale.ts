/** How values become places along an axis. */
export interface Scale {
  /** Place of a value, 0 at the beginning of the axis and 1 at its end. */
  at(value: number): number;
  ticks: number[];
}

/** The step of 1, 2 or 5 times a power of ten that divides a span into about `count` parts. */
function niceStep(span: number, count: number): number {
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((each) => each * power >= rough) ?? 10;
  return factor * power;
}

/** From zero, or a round number below the least value, to a round one. */
export function linearScale(values: readonly number[], max?: number): Scale {
  const finite = values.filter(Number.isFinite);
  const low = Math.min(0, ...finite);
  const high = max ?? Math.max(...(finite.length === 0 ? [1] : finite));
  const span = high > low ? high - low : Math.abs(high) || 1;
  const step = niceStep(span, 5);
  const from = Math.floor(low / step) * step;
  const steps = Math.max(1, Math.ceil((low + span - from) / step - 1e-9));
  const to = max ?? from + steps * step;
  const ticks = Array.from({ length: steps + 1 }, (_, index) => Number((from + index * step).toPrecision(12)));
  return { at: (value) => (value - from) / (to - from), ticks: ticks.filter((tick) => tick <= to * (1 + 1e-9)) };
}

/** Over powers of ten, or their halves and fifths where there are few. Values of zero and less sit at the beginning. */
export function logScale(values: readonly number[]): Scale {
  const positive = values.filter((value) => Number.isFinite(value) && value > 0);
  const low = Math.min(...(positive.length === 0 ? [1] : positive));
  const high = Math.max(...(positive.length === 0 ? [10] : positive));
  const candidates = (factors: readonly number[]): number[] => {
    const all: number[] = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)) + 1; power++) {
      for (const factor of factors) all.push(Number((factor * 10 ** power).toPrecision(6)));
    }
    return all;
  };
  const fine = candidates([1, 2, 5]);
  const from = fine.filter((tick) => tick <= low).at(-1) ?? low;
  const to = fine.find((tick) => tick >= high && tick > from) ?? high;
  const within = (all: number[]): number[] => all.filter((tick) => tick >= from && tick <= to);
  const ticks = within(fine).length > 9 ? within(candidates([1])) : within(fine);
  const length = Math.log(to / from);
  return { at: (value) => (value <= from ? 0 : Math.log(value / from) / length), ticks };
}
