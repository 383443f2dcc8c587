import type { Axis, Mark, Scale, Spec } from 'vega';
import { type ChartFrame, COLOURS, frameOf, svgOf, toPng } from './render.ts';

/** One bar. */
export interface Bar {
  /** What stands under it; bars of the same category stand side by side. */
  category: string;
  /** Its colour and its line in the legend. */
  series: string;
  value: number;
}

/** A chart of upright bars with their values above them. */
export interface BarChart extends ChartFrame {
  y: {
    title: string;
    /** `log10` takes values above zero; its axis begins at the power of ten below the smallest. */
    scale: 'linear' | 'log10';
  };
  bars: readonly Bar[];
  /** Names of categories aslant, where there are too many for a line. */
  slanted?: boolean;
}

/**
 * Draws a chart as PNG, on white, with a legend where there are several series.
 * @throws Error for a chart without bars, and for values that its scale cannot show.
 */
export async function renderBarChart(chart: BarChart): Promise<Buffer> {
  return toPng(await barChartSvg(chart));
}

/** The same chart as SVG text. @throws Error as `renderBarChart` does. */
export async function barChartSvg(chart: BarChart): Promise<string> {
  if (chart.bars.length === 0) throw new Error(`chart '${chart.title}' has no bars`);
  for (const { value } of chart.bars) {
    const shows = Number.isFinite(value) && (chart.y.scale === 'linear' ? value >= 0 : value > 0);
    if (!shows) throw new Error(`chart '${chart.title}': ${value} does not fit on the ${chart.y.scale} axis`);
  }
  return svgOf(specOf(chart));
}

function specOf(chart: BarChart): Spec {
  const series = [...new Set(chart.bars.map((bar) => bar.series))];
  const categories = [...new Set(chart.bars.map((bar) => bar.category))];
  const values = chart.bars.map((bar) => ({ ...bar, label: labelOf(bar.value) }));
  const slant: Partial<Axis> =
    chart.slanted === true ? { labelAngle: -40, labelAlign: 'right', labelBaseline: 'top' } : {};
  const range = series.map((_, i) => COLOURS[i % COLOURS.length] as string);
  return {
    ...frameOf(chart),
    data: [{ name: 'bars', values }],
    scales: [
      { name: 'x', type: 'band', domain: categories, range: 'width', padding: 0.25 },
      { name: 'inside', type: 'band', domain: series, range: [0, { signal: "bandwidth('x')" }], padding: 0.05 },
      yScale(chart),
      { name: 'colour', type: 'ordinal', domain: series, range },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', domain: false, ticks: false, labelPadding: 8, ...slant },
      { scale: 'y', orient: 'left', title: chart.y.title, titlePadding: 10, grid: true, domain: false, tickCount: 6 },
    ],
    legends: series.length < 2 ? [] : [{ fill: 'colour', orient: 'right' }],
    marks: bars(chart),
  };
}

/** Three digits are enough for a bar. */
function labelOf(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
}

function yScale(chart: BarChart): Scale {
  const domain = { data: 'bars', field: 'value' };
  if (chart.y.scale === 'linear') return { name: 'y', type: 'linear', domain, range: 'height', nice: true, zero: true };
  const values = chart.bars.map(({ value }) => value);
  return { name: 'y', type: 'log', base: 10, domain: [floorOf(chart), Math.max(...values) * 1.5], range: 'height' };
}

/** Where bars begin. */
function floorOf(chart: BarChart): number {
  if (chart.y.scale === 'linear') return 0;
  const least = Math.min(...chart.bars.map(({ value }) => value));
  return 10 ** (Math.ceil(Math.log10(least)) - 1);
}

function bars(chart: BarChart): Mark[] {
  const x = { scale: 'x', field: 'category', offset: { scale: 'inside', field: 'series' } };
  const rect: Mark = {
    type: 'rect',
    from: { data: 'bars' },
    encode: {
      update: {
        x,
        width: { scale: 'inside', band: 1 },
        y: { scale: 'y', field: 'value' },
        y2: { scale: 'y', value: floorOf(chart) },
        fill: { scale: 'colour', field: 'series' },
      },
    },
  };
  const label: Mark = {
    type: 'text',
    from: { data: 'bars' },
    encode: {
      update: {
        x: { ...x, offset: { signal: "scale('inside', datum.series) + bandwidth('inside') / 2" } },
        y: { scale: 'y', field: 'value', offset: -6 },
        align: { value: 'center' },
        fontSize: { value: 11 },
        text: { field: 'label' },
      },
    },
  };
  return [rect, label];
}
