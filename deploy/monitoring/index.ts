import { type Board, renderBoard } from './board.ts';
import { api } from './dashboards/api.ts';
import { autoscaling } from './dashboards/autoscaling.ts';
import { experts } from './dashboards/experts.ts';
import { kv } from './dashboards/kv.ts';
import { overview } from './dashboards/overview.ts';

const BOARDS: readonly Board[] = [overview, api, experts, kv, autoscaling];

/** Grafana dashboards by file name, as the chart ships them. */
export function dashboards(): { file: string; json: string }[] {
  return BOARDS.map((board) => ({
    file: `${board.name}.json`,
    json: `${JSON.stringify(renderBoard(board), null, 2)}\n`,
  }));
}
