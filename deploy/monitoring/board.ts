import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import { DATASOURCE } from './panels.ts';

/** A row of panels under one heading. */
export interface BoardRow {
  title: string;
  panels: readonly Builder<dashboard.Panel>[];
}

/** A dashboard. */
export interface Board {
  /** Name of its file and end of its uid. */
  name: string;
  title: string;
  description: string;
  rows: readonly BoardRow[];
}

function labelVariable(name: string, query: string): dashboard.QueryVariableBuilder {
  return new dashboard.QueryVariableBuilder(name)
    .label(name)
    .datasource(DATASOURCE)
    .query(query)
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc);
}

/** Grafana's JSON of a dashboard, with a choice of data source, namespace and release on top. */
export function renderBoard(board: Board): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(`Guildhall / ${board.title}`)
    .uid(`guildhall-${board.name}`)
    .description(board.description)
    .tags(['guildhall'])
    .refresh('10s')
    .time({ from: 'now-1h', to: 'now' })
    .timezone('browser')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('data source').type('prometheus'))
    .withVariable(labelVariable('namespace', 'label_values(guildhall_build_info, namespace)'))
    .withVariable(labelVariable('release', 'label_values(guildhall_build_info{namespace="$namespace"}, release)'));
  for (const row of board.rows) {
    builder.withRow(new dashboard.RowBuilder(row.title));
    for (const panel of row.panels) builder.withPanel(panel);
  }
  return builder.build();
}
