/** A value and how often each unknown is in it. */
export interface Equation {
  us: number;
  counts: readonly number[];
}

/**
 * Least squares for us = sum of counts x unknowns, none below zero: the most negative unknown is fixed at zero until none is
 * left. All equations count alike, whatever their size.
 */
export function leastSquares(equations: readonly Equation[]): number[] {
  const unknowns = equations[0]?.counts.length ?? 0;
  const scaled = equations.filter(({ us }) => us > 0).map(({ us, counts }) => counts.map((count) => count / us));
  let used = Array.from({ length: unknowns }, (_, i) => i);
  for (;;) {
    const solution = solve(scaled, used);
    const least = Math.min(...solution);
    if (least >= 0 || used.length === 0) {
      return Array.from({ length: unknowns }, (_, i) => (used.includes(i) ? (solution[used.indexOf(i)] ?? 0) : 0));
    }
    used = used.filter((_, at) => at !== solution.indexOf(least));
  }
}

/** Normal equations by elimination; a trace on the diagonal keeps unknowns apart that always come together. */
function solve(rows: readonly (readonly number[])[], used: readonly number[]): number[] {
  const at = (row: readonly number[], i: number): number => row[i] ?? 0;
  const matrix = used.map((i) => [
    ...used.map((j) => rows.reduce((sum, row) => sum + at(row, i) * at(row, j), 0)),
    rows.reduce((sum, row) => sum + at(row, i), 0),
  ]);
  for (const [k, pivot] of matrix.entries()) {
    pivot[k] = (pivot[k] ?? 0) * (1 + 1e-9) + 1e-30;
    for (const [i, row] of matrix.entries()) {
      if (i === k) continue;
      const factor = at(row, k) / at(pivot, k);
      for (let j = k; j < row.length; j++) row[j] = at(row, j) - factor * at(pivot, j);
    }
  }
  return matrix.map((row, k) => at(row, used.length) / at(row, k));
}
