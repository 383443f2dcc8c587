import type { Axis, Mark, Scale, Spec } from 'vega';
import { COLOURS, frameOf, svgOf, toPng } from './render.ts';

/** One axis of a chart. */
export interface ChartAxis {
  title: string;
  /** `log2` and `log10` take values above zero only. */
  scale: 'linear' | 'log2' | 'log10';
  /** Where ticks go; chosen by the scale without it. */
  ticks?: readonly number[];
  /** `binary` writes 4096 as 4K and 1048576 as 1M; `percent` writes 0.5 as 50%. Plain numbers without it. */
  labels?: 'plain' | 'binary' | 'percent';
  /** A linear axis starts at zero; true without it. */
  fromZero?: boolean;
}

/** One curve: its points in the order in which they are joined. */
export interface ChartSeries {
  name: string;
  points: readonly { x: number; y: number }[];
}

/** A chart of one or more curves over common axes. */
export interface LineChart {
  title: string;
  /** A second, smaller line: what machine, what was held fixed. */
  subtitle?: string;
  x: ChartAxis;
  y: ChartAxis;
  series: readonly ChartSeries[];
  /** Of the plot itself, in pixels before scaling by two; 640 × 360 without them. */
  width?: number;
  height?: number;
}

const SHAPES = ['circle', 'square', 'triangle-up', 'diamond', 'cross', 'triangle-down', 'triangle-right'];

const LABELS = {
  plain: "format(datum.value, ',~r')",
  binary:
    "datum.value >= 1048576 ? format(datum.value / 1048576, '~r') + 'M' : " +
    "datum.value >= 1024 ? format(datum.value / 1024, '~r') + 'K' : format(datum.value, '~r')",
  percent: "format(datum.value, '.0%')",
};

/**
 * Draws a chart as PNG, on white, with a legend where there are several curves. The font comes from npm, so the same
 * input makes the same picture everywhere.
 * @throws Error for a chart without points, and for values that its scale cannot show.
 */
export async function renderLineChart(chart: LineChart): Promise<Buffer> {
  return toPng(await chartSvg(chart));
}

/** The same chart as SVG text. @throws Error as `renderLineChart` does. */
export async function chartSvg(chart: LineChart): Promise<string> {
  check(chart);
  return svgOf(specOf(chart));
}

function check({ title, x, y, series }: LineChart): void {
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) throw new Error(`chart '${title}' has no points`);
  for (const point of points) {
    for (const [axis, value] of [
      [x, point.x],
      [y, point.y],
    ] as const) {
      const shows = Number.isFinite(value) && (axis.scale === 'linear' || value > 0);
      if (!shows) throw new Error(`chart '${title}': ${value} does not fit on the ${axis.scale} axis '${axis.title}'`);
    }
  }
}

function specOf(chart: LineChart): Spec {
  const names = chart.series.map(({ name }) => name);
  const values = chart.series.flatMap(({ name, points }) => points.map(({ x, y }) => ({ name, x, y })));
  const range = names.map((_, i) => COLOURS[i % COLOURS.length] as string);
  const shapes = names.map((_, i) => SHAPES[i % SHAPES.length] as string);
  return {
    ...frameOf(chart),
    data: [{ name: 'points', values }],
    scales: [
      scaleOf('x', 'width', chart.x, false),
      scaleOf('y', 'height', chart.y, true),
      { name: 'colour', type: 'ordinal', domain: names, range },
      { name: 'shape', type: 'ordinal', domain: names, range: shapes },
    ],
    axes: [axisOf('x', 'bottom', chart.x), axisOf('y', 'left', chart.y)],
    legends: names.length < 2 ? [] : [{ stroke: 'colour', fill: 'colour', shape: 'shape', orient: 'right' }],
    marks: [curves()],
  };
}

function scaleOf(name: 'x' | 'y', range: 'width' | 'height', axis: ChartAxis, nice: boolean): Scale {
  const domain = { data: 'points', field: name };
  if (axis.scale === 'linear') {
    return { name, type: 'linear', domain, range, nice, zero: axis.fromZero ?? true };
  }
  return { name, type: 'log', base: axis.scale === 'log2' ? 2 : 10, domain, range, nice };
}

function axisOf(scale: 'x' | 'y', orient: 'bottom' | 'left', axis: ChartAxis): Axis {
  return {
    scale,
    orient,
    title: axis.title,
    titlePadding: 10,
    grid: true,
    domain: false,
    ...(axis.ticks === undefined ? {} : { values: [...axis.ticks] }),
    encode: { labels: { update: { text: { signal: LABELS[axis.labels ?? 'plain'] } } } },
  };
}

/** A line and its points for each series. */
function curves(): Mark {
  const x = { scale: 'x', field: 'x' };
  const y = { scale: 'y', field: 'y' };
  const colour = { scale: 'colour', field: 'name' };
  const line: Mark = {
    type: 'line',
    from: { data: 'curve' },
    encode: { update: { x, y, stroke: colour, strokeWidth: { value: 2 } } },
  };
  const dots: Mark = {
    type: 'symbol',
    from: { data: 'curve' },
    encode: { update: { x, y, fill: colour, shape: { scale: 'shape', field: 'name' }, size: { value: 45 } } },
  };
  return { type: 'group', from: { facet: { name: 'curve', data: 'points', groupby: 'name' } }, marks: [line, dots] };
}
