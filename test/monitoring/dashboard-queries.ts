import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT } from '../harness/service-process.ts';

export interface PanelQuery {
  dashboard: string;
  panel: string;
  expr: string;
}

interface Panel {
  title: string;
  type: string;
  panels?: Panel[];
  targets?: { expr: string }[];
}

const FOLDER = join(ROOT, 'charts', 'guildhall', 'files', 'dashboards');

/** Every query of every panel of the dashboards that the chart ships. */
export function panelQueries(): PanelQuery[] {
  return globSync('*.json', { cwd: FOLDER })
    .toSorted()
    .flatMap((file) => {
      const { panels } = JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as { panels: Panel[] };
      return panels
        .flatMap((panel) => [panel, ...(panel.panels ?? [])])
        .flatMap(({ title, targets = [] }) =>
          targets.map(({ expr }) => ({ dashboard: basename(file, '.json'), panel: title, expr })),
        );
    });
}

/** An expression with values for Grafana's variables. */
export function withVariables(expr: string, values: Record<string, string>): string {
  const filled = expr.replace(/\$(?:__)?[a-z_]+/g, (word) => values[word.slice(1)] ?? word);
  if (filled.includes('$')) throw new Error(`a variable without a value: ${filled}`);
  return filled;
}
