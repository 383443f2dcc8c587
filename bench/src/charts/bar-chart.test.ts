import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BarChart, barChartSvg, renderBarChart } from './bar-chart.ts';

const CHART: BarChart = {
  title: 'First token',
  y: { title: 'milliseconds', scale: 'log10' },
  bars: [
    { category: 'cold', series: 'small', value: 20_000 },
    { category: 'cold', series: 'large', value: 90_000 },
    { category: 'hit', series: 'small', value: 35.26 },
    { category: 'hit', series: 'large', value: 81 },
  ],
};

/** Heights of the bars, in the order in which they are drawn. */
async function heights(chart: BarChart): Promise<number[]> {
  const svg = await barChartSvg(chart);
  const rects = [
    ...svg.matchAll(/<path[^>]* d="M[-\d.]+,[-\d.]+h[-\d.]+v([-\d.]+)h[-\d.]+Z"[^>]*fill="#(?:0072b2|d55e00)"/g),
  ];
  return rects.map(([, height]) => Math.abs(Number(height)));
}

test('a bar is as high as its value, and says it', async () => {
  const svg = await barChartSvg(CHART);
  for (const text of ['First token', 'cold', 'hit', 'small', 'large', '20,000', '35.3']) {
    assert.ok(svg.includes(`>${text}<`), `${text} is drawn`);
  }
  const [cold = 0, colder = 0, hit = 0, slower = 0] = await heights(CHART);
  assert.ok(colder > cold && cold > slower && slower > hit && hit > 0);
  // From 10 up, on a scale of tens.
  assert.ok(Math.abs(cold / slower - Math.log10(2000) / Math.log10(8.1)) < 0.01);
});

test('linear bars begin at zero', async () => {
  const bars = [1, 2, 4].map((value, i) => ({ category: `${i}`, series: 'one', value }));
  const [a = 0, b = 0, c = 0] = await heights({ title: 'x', y: { title: 'y', scale: 'linear' }, bars });
  assert.ok(Math.abs(b / a - 2) < 0.01 && Math.abs(c / a - 4) < 0.01);
});

test('pictures are PNG, the same for the same input, and impossible values are refused', async () => {
  const png = await renderBarChart(CHART);
  assert.equal(png.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  assert.ok(png.equals(await renderBarChart(CHART)));
  await assert.rejects(renderBarChart({ ...CHART, bars: [] }), /has no bars/);
  const zero = { ...CHART, bars: [{ category: 'a', series: 'a', value: 0 }] };
  await assert.rejects(renderBarChart(zero), /0 does not fit on the log10 axis/);
});
