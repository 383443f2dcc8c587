import { escapeHtml, scriptJson } from './escape.ts';
import { short } from './format.ts';
import { linearScale, logScale, type Scale } from './scale.ts';

/** One axis of a chart. */
export interface ChartAxis {
  title: string;
  scale: 'linear' | 'log';
  /** Where a linear axis ends, whatever the values. */
  max?: number;
  /** How its values are written. */
  format?: (value: number) => string;
}

/** One curve or cloud. */
export interface ChartSeries {
  name: string;
  /** A CSS colour, or a variable of the page's style. */
  colour: string;
  points: readonly (readonly [x: number, y: number])[];
  /** Dots without a line, a line, a line with a dot at each point, steps, or a line filled below. */
  mark: 'dots' | 'line' | 'marked' | 'steps' | 'area';
  dashed?: boolean;
}

export interface Chart {
  title: string;
  note?: string;
  x: ChartAxis;
  y: ChartAxis;
  series: readonly ChartSeries[];
  /** A level that is drawn across, such as an objective. */
  limits?: readonly { value: number; name: string; axis: 'x' | 'y' }[];
}

const WIDTH = 560;
const HEIGHT = 280;
const MARGIN = { top: 12, right: 16, bottom: 40, left: 76 };
const PLOT = { width: WIDTH - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };

interface Frame {
  x: Scale;
  y: Scale;
  px: (value: number) => number;
  py: (value: number) => number;
}

function scaleOf(axis: ChartAxis, values: readonly number[]): Scale {
  if (axis.scale === 'log') return logScale(values);
  return linearScale(values, axis.max);
}

function frameOf({ x, y, series, limits = [] }: Chart): Frame {
  const all = series.flatMap(({ points }) => points);
  const along = (axis: 'x' | 'y'): number[] => limits.filter((limit) => limit.axis === axis).map(({ value }) => value);
  const xs = scaleOf(x, [...all.map(([value]) => value), ...along('x')]);
  const ys = scaleOf(y, [...all.map(([, value]) => value), ...along('y')]);
  return {
    x: xs,
    y: ys,
    px: (value) => round(MARGIN.left + xs.at(value) * PLOT.width),
    py: (value) => round(MARGIN.top + (1 - ys.at(value)) * PLOT.height),
  };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function axes({ x, y }: Chart, frame: Frame): string {
  const bottom = MARGIN.top + PLOT.height;
  const [formatX, formatY] = [x.format ?? short, y.format ?? short];
  const columns = frame.x.ticks.map((tick) => {
    const at = frame.px(tick);
    return `<line class="grid" x1="${at}" x2="${at}" y1="${MARGIN.top}" y2="${bottom}"/><text x="${at}" y="${bottom + 16}" text-anchor="middle">${escapeHtml(formatX(tick))}</text>`;
  });
  const rows = frame.y.ticks.map((tick) => {
    const at = frame.py(tick);
    return `<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${at}" y2="${at}"/><text x="${MARGIN.left - 8}" y="${at + 4}" text-anchor="end">${escapeHtml(formatY(tick))}</text>`;
  });
  const middle = MARGIN.top + PLOT.height / 2;
  return [
    ...columns,
    ...rows,
    `<line class="axis" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${bottom}" y2="${bottom}"/>`,
    `<text class="title" x="${MARGIN.left + PLOT.width / 2}" y="${HEIGHT - 4}" text-anchor="middle">${escapeHtml(x.title)}</text>`,
    `<text class="title" transform="translate(10 ${middle}) rotate(-90)" text-anchor="middle">${escapeHtml(y.title)}</text>`,
  ].join('');
}

function limitLines({ limits = [] }: Chart, { px, py }: Frame): string {
  return limits
    .map(({ value, name, axis }) => {
      if (axis === 'y') {
        const at = py(value);
        return `<line class="limit" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${at}" y2="${at}"/><text class="limit" x="${WIDTH - MARGIN.right - 4}" y="${at - 4}" text-anchor="end">${escapeHtml(name)}</text>`;
      }
      const at = px(value);
      return `<line class="limit" x1="${at}" x2="${at}" y1="${MARGIN.top}" y2="${MARGIN.top + PLOT.height}"/><text class="limit" x="${at - 4}" y="${MARGIN.top + 10}" text-anchor="end">${escapeHtml(name)}</text>`;
    })
    .join('');
}

/** The path through points; steps go level to the next point first. */
function pathOf(points: readonly (readonly [number, number])[], steps: boolean): string {
  return points.map(([x, y], index) => (index === 0 ? `M${x} ${y}` : steps ? `H${x}V${y}` : `L${x} ${y}`)).join('');
}

function drawSeries({ colour, points, mark, dashed }: ChartSeries, { px, py }: Frame): string {
  const placed = points.map(([x, y]) => [px(x), py(y)] as const);
  const style = `style="--colour:${escapeHtml(colour)}"`;
  const dots = (radius: number): string =>
    placed.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="${radius}"/>`).join('');
  if (mark === 'dots') return `<g class="dots" ${style}>${dots(2.2)}</g>`;
  const first = placed[0];
  const last = placed.at(-1);
  if (first === undefined || last === undefined) return '';
  const path = pathOf(placed, mark === 'steps');
  const bottom = MARGIN.top + PLOT.height;
  const fill = mark === 'area' ? `<path class="area" d="${path}L${last[0]} ${bottom}L${first[0]} ${bottom}Z"/>` : '';
  const marks = mark === 'marked' ? dots(3.2) : '';
  return `<g class="curve${dashed === true ? ' dashed' : ''}" ${style}>${fill}<path d="${path}"/>${marks}</g>`;
}

/** What the page's script shows at the pointer: places in the picture and words for them. */
function hoverData({ series, x, y }: Chart, { px, py }: Frame): unknown {
  const [formatX, formatY] = [x.format ?? short, y.format ?? short];
  return series
    .filter(({ mark }) => mark !== 'dots')
    .map(({ name, colour, points }) => ({
      name,
      colour,
      points: points.map(([a, b]) => [px(a), py(b), formatX(a), formatY(b)]),
    }));
}

function legend(series: readonly ChartSeries[]): string {
  if (series.length < 2) return '';
  const entries = series.map(
    ({ name, colour, dashed, mark }) =>
      `<li style="--colour:${escapeHtml(colour)}"><i class="${mark === 'dots' ? 'dot' : dashed === true ? 'dash' : 'line'}"></i>${escapeHtml(name)}</li>`,
  );
  return `<ul class="legend">${entries.join('')}</ul>`;
}

/** A chart as a figure of the page. One without values says so. */
export function chartHtml(chart: Chart): string {
  const { title, note, series } = chart;
  const head = `<figcaption><b>${escapeHtml(title)}</b>${note === undefined ? '' : `<span>${escapeHtml(note)}</span>`}</figcaption>`;
  if (series.every(({ points }) => points.length === 0))
    return `<figure>${head}<p class="empty">no values</p></figure>`;
  const frame = frameOf(chart);
  const label = escapeHtml(`${title}: ${chart.y.title} over ${chart.x.title}`);
  const picture = `${axes(chart, frame)}${series.map((each) => drawSeries(each, frame)).join('')}${limitLines(chart, frame)}`;
  const hover = scriptJson(hoverData(chart, frame));
  return `<figure>${head}${legend(series)}<div class="plot"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">${picture}<line class="cursor" y1="${MARGIN.top}" y2="${MARGIN.top + PLOT.height}"/></svg><script type="application/json">${hover}</script></div></figure>`;
}
