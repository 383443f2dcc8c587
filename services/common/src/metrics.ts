import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { fail } from './errors.ts';
import { type MetricInfo, type MetricName, METRICS, type MetricService } from './metric-table.ts';

/** Values of a metric's labels. */
export type Labels = Record<string, string | number>;

/** The metrics of one process. A name that the table does not give to its service throws `internal`. */
export interface Metrics {
  readonly registry: Registry;
  /** Adds to a counter. */
  count(name: MetricName, labels?: Labels, by?: number): void;
  /** Sets a gauge. */
  gauge(name: MetricName, value: number, labels?: Labels): void;
  /** Adds one observation to a histogram, in the unit that the name says. */
  observe(name: MetricName, value: number, labels?: Labels): void;
  /** Forgets a labelled series, such as that of a worker that is gone. */
  remove(name: MetricName, labels: Labels): void;
  /** Forgets every series in which a label has this value: of a worker that is gone, say, whatever was counted of it. */
  forget(label: string, value: string): Promise<void>;
  /** Has `update` called before the metrics are read, for gauges that are cheaper to ask than to keep. */
  beforeRender(update: () => void): void;
  /** Prometheus text and its content type. */
  render(): Promise<{ contentType: string; body: string }>;
}

type Instrument = Counter | Gauge | Histogram;

function makeInstrument(registry: Registry, name: string, info: MetricInfo): Instrument {
  const common = { name, help: info.help, labelNames: [...info.labels], registers: [registry] };
  if (info.type === 'counter') return new Counter(common);
  if (info.type === 'gauge') return new Gauge(common);
  return new Histogram({ ...common, buckets: [...(info.buckets ?? [])] });
}

/** Additions to one series that the registry has not seen yet. */
interface Pending {
  counter: Counter;
  labels: Labels;
  value: number;
}

/**
 * Counters count on every message and are looked at now and then: additions are gathered here, at a fraction of what the
 * registry takes for one.
 */
class PendingCounts {
  readonly #series = new Map<string, Pending>();

  add(counter: Counter, name: string, labels: Labels, by: number): void {
    let key = name;
    for (const label in labels) key += `\0${label}\0${labels[label]}`;
    const known = this.#series.get(key);
    if (known !== undefined) {
      known.value += by;
      return;
    }
    // The first addition goes to the registry at once, which checks the labels.
    counter.inc(labels, by);
    this.#series.set(key, { counter, labels: { ...labels }, value: 0 });
  }

  /** Brings the registry up to date. Series are checked in anew afterwards, so that removed ones do not come back. */
  flush(): void {
    for (const { counter, labels, value } of this.#series.values()) if (value !== 0) counter.inc(labels, value);
    this.#series.clear();
  }
}

/** Registers the metrics of a service, and those of the Node process. */
export function createMetrics(service: Exclude<MetricService, 'all'>): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const instruments = new Map<MetricName, Instrument>();
  for (const [name, info] of Object.entries(METRICS) as [MetricName, MetricInfo][]) {
    if (!info.services.includes(service) && !info.services.includes('all')) continue;
    instruments.set(name, makeInstrument(registry, name, info));
  }
  const find = <T extends Instrument>(name: MetricName, kind: new (...args: never[]) => T): T => {
    const instrument = instruments.get(name);
    if (!(instrument instanceof kind)) throw fail('internal', `metric ${name} is not a ${kind.name} of ${service}`);
    return instrument;
  };
  const counts = new PendingCounts();
  const updates: (() => void)[] = [];
  return {
    registry,
    count: (name, labels = {}, by = 1) => counts.add(find(name, Counter), name, labels, by),
    gauge: (name, value, labels = {}) => find(name, Gauge).set(labels, value),
    observe: (name, value, labels = {}) => find(name, Histogram).observe(labels, value),
    remove(name, labels) {
      counts.flush();
      instruments.get(name)?.remove(labels);
    },
    async forget(label, value) {
      counts.flush();
      for (const [name, instrument] of instruments) {
        const info: MetricInfo = METRICS[name];
        // Histograms give a row for each bucket; none is labelled by what comes and goes.
        if (!info.labels.includes(label) || instrument instanceof Histogram) continue;
        const { values } = await instrument.get();
        for (const { labels } of values) if (labels[label] === value) instrument.remove(labels as Labels);
      }
    },
    beforeRender: (update) => void updates.push(update),
    async render() {
      for (const update of updates) update();
      counts.flush();
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
  };
}
