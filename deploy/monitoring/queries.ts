/**
 * PromQL of dashboards. Series carry the labels that the chart's ServiceMonitor gives them: `namespace`, `release`
 * (the Helm release), `component` (gateway, router, expert, controller, batch) and `pod`.
 */

/** Variables of every dashboard, as label matchers. */
const SCOPE = 'namespace="$namespace",release="$release"';
/** Quantiles that latency panels show. */
export const QUANTILES = [0.5, 0.95, 0.99] as const;

/** A metric of this release; `labels` narrow it down further, as matchers: `component="router"`. */
export function of(metric: string, labels = ''): string {
  return `${metric}{${[SCOPE, labels].filter((part) => part !== '').join(',')}}`;
}

/** Increase a second of a counter, summed by labels. A counter that was never increased is 0, not absent. */
export function rate(metric: string, by: readonly string[] = [], labels = ''): string {
  const summed = `sum${grouping(by)}(rate(${of(metric, labels)}[$__rate_interval]))`;
  return `${summed} or vector(0)`;
}

/** Sum of a gauge, by labels. */
export function sum(metric: string, by: readonly string[] = [], labels = ''): string {
  return `sum${grouping(by)}(${of(metric, labels)})`;
}

/** Quantile of a histogram over the whole release, by labels. */
export function quantile(q: number, metric: string, by: readonly string[] = [], labels = ''): string {
  const grouped = ['le', ...by].join(', ');
  return `histogram_quantile(${q}, sum by (${grouped}) (rate(${of(`${metric}_bucket`, labels)}[$__rate_interval])))`;
}

/** Ratio of two counters' increases; 0 where nothing happened. */
export function ratio(part: string, whole: string, partLabels = '', wholeLabels = ''): string {
  const over = `sum(rate(${of(part, partLabels)}[$__rate_interval]))`;
  const under = `sum(rate(${of(whole, wholeLabels)}[$__rate_interval]))`;
  return `(${over} / (${under} > 0)) or vector(0)`;
}

function grouping(by: readonly string[]): string {
  return by.length === 0 ? '' : ` by (${by.join(', ')}) `;
}
