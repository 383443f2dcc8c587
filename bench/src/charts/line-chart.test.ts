import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chartSvg, type LineChart, renderLineChart } from './line-chart.ts';

const CHART: LineChart = {
  title: 'Decode rate over depth',
  subtitle: 'made-up figures',
  x: { title: 'tokens of context', scale: 'log2', ticks: [1024, 4096, 16384], labels: 'binary' },
  y: { title: 'tokens per second', scale: 'linear' },
  series: [
    { name: 'hybrid', points: [1024, 4096, 16384].map((x, i) => ({ x, y: 100 - i })) },
    { name: 'twin', points: [1024, 4096, 16384].map((x, i) => ({ x, y: 90 - 30 * i })) },
  ],
};

/** Width and height in the header of a PNG. */
function sizeOf(png: Buffer): [number, number] {
  assert.equal(png.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  return [png.readUInt32BE(16), png.readUInt32BE(20)];
}

test('a chart has its titles, tick labels, a legend, and a curve for each series', async () => {
  const svg = await chartSvg(CHART);
  for (const text of ['Decode rate over depth', 'made-up figures', 'tokens of context', '1K', '4K', '16K', 'twin']) {
    assert.ok(svg.includes(`>${text}<`), `${text} is drawn`);
  }
  const curves = [...svg.matchAll(/<path[^>]* d="M([^"]*)"[^>]*stroke="#(?:0072b2|d55e00)"/g)];
  assert.deepEqual(
    curves.map(([, path]) => path?.split('L').length),
    [3, 3, 1, 1],
    'two lines of three points, two symbols of the legend',
  );
});

test('one series needs no legend', async () => {
  const svg = await chartSvg({ ...CHART, series: CHART.series.slice(0, 1) });
  assert.ok(!svg.includes('>hybrid<'));
});

test('pictures are PNG, twice the size, and the same for the same input', async () => {
  const png = await renderLineChart(CHART);
  const [width, height] = sizeOf(png);
  assert.ok(width > 2 * 640 && height > 2 * 360, `${width} × ${height}`);
  assert.ok(png.equals(await renderLineChart(CHART)));
  // Text is drawn, not left out for want of a font.
  const untitled = await renderLineChart({ ...CHART, title: ' ' });
  assert.ok(!png.equals(untitled));
});

test('values that a scale cannot show are refused', async () => {
  const zero = { ...CHART, series: [{ name: 'a', points: [{ x: 0, y: 1 }] }] };
  await assert.rejects(renderLineChart(zero), /0 does not fit on the log2 axis 'tokens of context'/);
  const nothing = { ...CHART, series: [] };
  await assert.rejects(renderLineChart(nothing), /has no points/);
  const infinite = { ...CHART, series: [{ name: 'a', points: [{ x: 1, y: Infinity }] }] };
  await assert.rejects(renderLineChart(infinite), /Infinity does not fit/);
});
