import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { BenchServeResult } from '../result.ts';
import { type BenchServeFlags, settingsOf } from '../settings.ts';
import { PointStatistics } from '../statistics/point-statistics.ts';
import { escapeHtml, scriptJson } from './escape.ts';
import { reportPage } from './page.ts';
import { linearScale, logScale } from './scale.ts';

const NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\u2028&\'"';

/** A result whose every text is nasty. */
function resultOf(
  label: string,
  rates: readonly number[],
  slo: BenchServeResult['slo'],
  broken: boolean,
): BenchServeResult {
  const points = rates.map((perSecond) => {
    const point = new PointStatistics({ kind: 'rate', perSecond }, slo, 0);
    for (let index = 0; index < 100; index++) {
      const dueMs = index * 40;
      point.started(dueMs);
      point.text(dueMs + 50);
      const times = { firstTokenMs: dueMs + 50 + index, lastTokenMs: dueMs + 250, endMs: dueMs + 260 };
      const tokens = {
        promptTokens: 30 + index,
        cachedTokens: 3,
        outputTokens: 11,
        counted: true,
        chunks: 2,
        gapsMs: [100],
      };
      const failure = broken && index % 10 === 0 ? ({ kind: 'stream_error', message: NASTY } as const) : null;
      point.ended({ dueMs, sentMs: dueMs, ...times, ...tokens, failure });
    }
    return point.result();
  });
  const flags = { url: null, header: [], api: 'chat', arrivals: 'poisson', burstiness: '1', prompt: '5', output: '5' };
  const more = {
    sharedPrefix: '0',
    prefixGroups: '1',
    turns: '1',
    think: '0',
    warmup: '0',
    timeout: '9s',
    maxInFlight: '9',
  };
  const rest = { temperature: '0', ignoreEos: true, body: '{}', maxFailures: '0', seed: '1' };
  const settings = settingsOf({ ...flags, ...more, ...rest } as BenchServeFlags, null);
  return {
    schema: 1,
    suite: 'bench-serve',
    label,
    startedAt: '2026-01-02T03:04:05.000Z',
    partial: false,
    version: '1',
    target: { url: 'http://h', api: 'chat', model: NASTY },
    workload: 'w',
    tokensPerWord: { value: 1, measured: true },
    settings,
    slo,
    points,
  };
}

test('what servers and files say cannot break out of the page', () => {
  const page = reportPage([resultOf(NASTY, [1, 2], { ttft: 100 }, true)]);
  assert.ok(!page.includes('<img'), 'no element of theirs');
  assert.equal(page.match(/<script>/g)?.length, 1, 'one script: ours');
  assert.ok(
    !/(?:src|href)=/.test(
      page.replaceAll(/<script type="application\/json"[\s\S]*?<\/script>/g, '').replaceAll('&lt;img src=', ''),
    ),
    'nothing is fetched from elsewhere',
  );
  const data = /<script type="application\/json" id="results">([\s\S]*?)<\/script>/.exec(page)?.[1];
  const [kept] = JSON.parse(data ?? '') as BenchServeResult[];
  assert.equal(kept?.label, NASTY, 'the data within the page is whole');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.ok(!/[<>"']/.test(escapeHtml(text)));
      assert.ok(!scriptJson({ text }).includes('<'));
      assert.deepEqual(JSON.parse(scriptJson({ text })), { text });
    }),
  );
});

test('a page shows each load, each kind of error and, of a sweep, its curves', () => {
  const sweep = reportPage([resultOf('a', [1, 2, 4], { ttft: 100, tpot: 50 }, true)]);
  assert.equal(sweep.match(/<section class="load">/g)?.length, 3);
  assert.match(sweep, /<td><i[^>]*><\/i>stream_error<\/td><td>10<\/td>/);
  for (const title of ['Goodput', 'Throughput', 'Latency against throughput', 'Within the objectives'])
    assert.ok(sweep.includes(`<b>${title}</b>`), title);
  const alone = reportPage([resultOf('a', [1], null, false)]);
  assert.ok(!alone.includes('Goodput') && !alone.includes('<h2>Errors</h2>'));
  const two = reportPage([resultOf('ours', [1, 2], null, false), resultOf('theirs', [2, 4], null, false)]);
  assert.equal(two.match(/<section class="load">/g)?.length, 3, 'loads of both, the common one once');
  assert.ok(two.includes('ours') && two.includes('theirs'));
});

test('a run without an answer makes a page, too', () => {
  const result = resultOf('a', [1], { ttft: 1 }, false);
  result.points = [new PointStatistics({ kind: 'rate', perSecond: 1 }, { ttft: 1 }, 0).result()];
  const page = reportPage([result]);
  assert.match(page, /no values/);
  assert.ok(!/NaN|Infinity|undefined/.test(page.replace(/<script[\s\S]*?<\/script>/g, '')));
  assert.ok(!/NaN|Infinity/.test(reportPage([{ ...result, points: [] }]).replace(/<script[\s\S]*?<\/script>/g, '')));
});

test('axes hold their values and have ticks', () => {
  const values = fc.array(fc.double({ min: 1e-3, max: 1e8, noNaN: true }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(values, (all) => {
      for (const scale of [linearScale(all), logScale(all)]) {
        for (const value of all) assert.ok(scale.at(value) >= -1e-6 && scale.at(value) <= 1 + 1e-6, `${value}`);
        assert.ok(scale.ticks.length >= 1 && scale.ticks.length <= 13, `${scale.ticks.length} ticks`);
        for (const tick of scale.ticks)
          assert.ok(scale.at(tick) >= -1e-6 && scale.at(tick) <= 1 + 1e-6, `tick ${tick}`);
      }
    }),
  );
});

function chromium(): string | null {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    } catch {
      continue;
    }
  }
  return null;
}

test('a browser runs the page without an error', { skip: chromium() === null ? 'no Chromium here' : false }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-report-'));
  try {
    const page = reportPage([resultOf('a', [1, 2], { ttft: 100 }, true)]);
    const probe = `<script>onerror=(message)=>document.documentElement.dataset.broken=message</script>`;
    const check =
      `<script>document.querySelectorAll('.tabs input')[1].click();document.getElementById('theme').click();` +
      `const svg=document.querySelector('svg');svg.dispatchEvent(new PointerEvent('pointermove',{clientX:svg.getBoundingClientRect().left+svg.getBoundingClientRect().width*0.55,clientY:90}));` +
      `document.documentElement.dataset.shown=[...document.querySelectorAll('.load')].map(({hidden})=>hidden).join();` +
      `document.documentElement.dataset.tip=document.querySelector('.tip').textContent</script>`;
    const file = join(dir, 'report.html');
    writeFileSync(file, page.replace('<head>', `<head>${probe}`).replace('</body>', `${check}</body>`));
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', `--user-data-dir=${dir}/profile`, '--dump-dom'];
    const dom = execFileSync(chromium() as string, [...flags, `file://${file}`], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 120_000,
      maxBuffer: 64 << 20,
    });
    const root = /<html[^>]*>/.exec(dom)?.[0] ?? '';
    assert.ok(!root.includes('data-broken'), root);
    assert.match(root, /data-theme="(dark|light)"/);
    assert.match(root, /data-shown="true,false"/);
    assert.match(root, /data-tip="[^"]*at 1/);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
