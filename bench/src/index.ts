/** What other packages use of the harness: the format of its reports, and its pictures. */
export { type BarChart, barChartSvg, renderBarChart } from './charts/bar-chart.ts';
export { chartSvg, type LineChart, renderLineChart } from './charts/line-chart.ts';
export { commitOf, machineOf } from './machine.ts';
export { markdown, type Report, save, SCHEMA, text } from './output.ts';
export { modelSpec } from './models/specs.ts';
export { type BenchRow, type Machine, makeRow, median, missingRow, type RowInput } from './report.ts';
