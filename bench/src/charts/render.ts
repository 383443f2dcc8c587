import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Resvg } from '@resvg/resvg-js';
import { parse, type Spec, View } from 'vega';

/** The only font of charts; it comes from npm, so the same input makes the same picture everywhere. */
export const FONT = 'DejaVu Sans';
/** Okabe and Ito's colours, which most colour-blind people can tell apart; yellow is too pale for lines. */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000'];
/** Pixels of the picture for each of the chart's. */
const PIXELS = 2;

/** What all charts have. */
export interface ChartFrame {
  title: string;
  /** A second, smaller line: what machine, what was held fixed. */
  subtitle?: string;
  /** Of the plot itself, in pixels before scaling by two; 640 × 360 without them. */
  width?: number;
  height?: number;
}

/** Size, titles and fonts of a chart. */
export function frameOf({
  title,
  subtitle,
  width,
  height,
}: ChartFrame): Pick<Spec, 'width' | 'height' | 'padding' | 'title' | 'config'> {
  return {
    width: width ?? 640,
    height: height ?? 360,
    padding: 12,
    title: {
      text: title,
      subtitle: subtitle ?? '',
      anchor: 'start',
      offset: 14,
      fontSize: 15,
      subtitleColor: '#555',
    },
    config: {
      title: { font: FONT, subtitleFont: FONT, subtitleFontSize: 11 },
      axis: { labelFont: FONT, titleFont: FONT, labelFontSize: 11, titleFontSize: 12, gridColor: '#e4e4e4' },
      legend: { labelFont: FONT, labelFontSize: 12, labelLimit: 480, symbolSize: 70 },
      text: { font: FONT },
    },
  };
}

/** A chart as SVG text. */
export async function svgOf(spec: Spec): Promise<string> {
  const view = new View(parse(spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/** The picture of an SVG, on white. */
export function toPng(svg: string): Buffer {
  const resvg = new Resvg(svg, {
    background: 'white',
    fitTo: { mode: 'zoom', value: PIXELS },
    font: { loadSystemFonts: false, fontFiles: fontFiles(), defaultFontFamily: FONT },
  });
  return Buffer.from(resvg.render().asPng());
}

function fontFiles(): string[] {
  const folder = join(dirname(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/package.json')), 'ttf');
  return [join(folder, 'DejaVuSans.ttf'), join(folder, 'DejaVuSans-Bold.ttf')];
}
