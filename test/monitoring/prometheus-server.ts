import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '@guildhall/common/testing';
import { stringify } from 'yaml';
import { until } from '../harness/index.ts';

/** Something to scrape, with the labels that the chart's ServiceMonitor would give it. */
export interface ScrapeTarget {
  address: string;
  labels: Record<string, string>;
}

export interface PrometheusOptions {
  targets: readonly ScrapeTarget[];
  /** Text of a rule file. */
  rules: string;
}

interface QueryAnswer {
  status: string;
  error?: string;
  data: { result: { metric: Record<string, string>; value: [number, string] }[] };
}

/** A real Prometheus on loopback that scrapes every second. */
export class PrometheusServer {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #dir: string;

  private constructor(url: string, child: ChildProcess, dir: string) {
    this.url = url;
    this.#child = child;
    this.#dir = dir;
  }

  static async start({ targets, rules }: PrometheusOptions): Promise<PrometheusServer> {
    const dir = mkdtempSync(join(tmpdir(), 'guildhall-prometheus-'));
    const port = await freePort();
    const config = {
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: [join(dir, 'rules.yaml')],
      scrape_configs: [
        {
          job_name: 'guildhall',
          static_configs: targets.map(({ address, labels }) => ({ targets: [address], labels })),
        },
      ],
    };
    writeFileSync(join(dir, 'rules.yaml'), rules);
    writeFileSync(join(dir, 'prometheus.yaml'), stringify(config));
    const child = spawn(
      'prometheus',
      [
        `--config.file=${join(dir, 'prometheus.yaml')}`,
        `--storage.tsdb.path=${join(dir, 'data')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=warn',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const server = new PrometheusServer(`http://127.0.0.1:${port}`, child, dir);
    try {
      await until('Prometheus to be ready', async () => {
        if (child.exitCode !== null) throw new Error(`it ended: ${log}`);
        return (await fetch(`${server.url}/-/ready`)).ok;
      });
      return server;
    } catch (err) {
      await server.stop();
      throw err;
    }
  }

  /** Values of an instant query. Throws with Prometheus's own words when the query is wrong. */
  async query(expr: string): Promise<{ labels: Record<string, string>; value: number }[]> {
    const body = new URLSearchParams({ query: expr });
    const answer = (await (await fetch(`${this.url}/api/v1/query`, { method: 'POST', body })).json()) as QueryAnswer;
    if (answer.status !== 'success') throw new Error(`${answer.error ?? 'failed'}: ${expr}`);
    return answer.data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await ended;
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
