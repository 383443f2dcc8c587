import {
  BigValueColorMode,
  LegendDisplayMode,
  LegendPlacement,
  SortOrder,
  StackingMode,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatPanelBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeseriesPanelBuilder } from '@grafana/grafana-foundation-sdk/timeseries';
import { StackingConfigBuilder } from '@grafana/grafana-foundation-sdk/common';
import { quantile, QUANTILES } from './queries.ts';

/** One query of a panel and the legend of its series; `{{label}}` stands for a label's value. */
export interface Target {
  expr: string;
  legend: string;
}

/** What a panel shows. */
export interface PanelSpec {
  title: string;
  /** What it means and what to look for. */
  description: string;
  /** Grafana's unit: s, bytes, percentunit, ops, short. */
  unit: string;
  targets: readonly Target[];
  /** Series on top of each other: parts of a whole. */
  stacked?: boolean;
  /** Largest value of the axis, for shares. */
  max?: number;
}

/** A number with a colour: from `bad` on it is red. Without `bad` it has no colour. */
export interface StatSpec {
  title: string;
  description: string;
  unit: string;
  expr: string;
  /** At which value it turns red: above a number, or below it. */
  bad?: { above: number } | { below: number };
}

export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };
/** Width of the grid is 24. */
const THIRD = 8;
const STAT = 4;

/** Curves over time, a third of the width. */
export function curves(spec: PanelSpec): TimeseriesPanelBuilder {
  const panel = new TimeseriesPanelBuilder()
    .title(spec.title)
    .description(spec.description)
    .datasource(DATASOURCE)
    .unit(spec.unit)
    .min(0)
    .span(THIRD)
    .height(8)
    .lineWidth(1)
    .fillOpacity(spec.stacked === true ? 40 : 5)
    .legend(
      new VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  if (spec.stacked === true) panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
  if (spec.max !== undefined) panel.max(spec.max);
  for (const [index, target] of spec.targets.entries()) panel.withTarget(query(target, index));
  return panel;
}

/** Quantiles of one histogram, optionally by a label. */
export function latency(
  spec: Omit<PanelSpec, 'unit' | 'targets'>,
  metric: string,
  labels = '',
): TimeseriesPanelBuilder {
  const targets = QUANTILES.map((q) => ({ expr: quantile(q, metric, [], labels), legend: `p${q * 100}` }));
  return curves({ ...spec, unit: 's', targets });
}

/** One number. */
export function stat(spec: StatSpec): StatPanelBuilder {
  const panel = new StatPanelBuilder()
    .title(spec.title)
    .description(spec.description)
    .datasource(DATASOURCE)
    .unit(spec.unit)
    .span(STAT)
    .height(4)
    .withTarget(query({ expr: spec.expr, legend: spec.title }, 0));
  if (spec.bad === undefined) return panel.colorMode(BigValueColorMode.None);
  return panel.colorMode(BigValueColorMode.Value).thresholds(thresholds(spec.bad));
}

function thresholds(bad: { above: number } | { below: number }): dashboard.ThresholdsConfigBuilder {
  const steps =
    'above' in bad
      ? [
          { value: null, color: 'green' },
          { value: bad.above, color: 'red' },
        ]
      : [
          { value: null, color: 'red' },
          { value: bad.below, color: 'green' },
        ];
  return new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps);
}

function query(target: Target, index: number): DataqueryBuilder {
  return new DataqueryBuilder()
    .refId(String.fromCharCode(65 + index))
    .expr(target.expr)
    .legendFormat(target.legend)
    .range();
}
