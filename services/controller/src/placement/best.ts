/** The `most` numbers below `count` that pass and have the least values, the least first, the first of equals first. */
export function best(
  count: number,
  most: number,
  passes: (index: number) => boolean,
  valueOf: (index: number) => number,
): number[] {
  const found: number[] = [];
  const values: number[] = [];
  for (let index = 0; index < count; index++) {
    if (!passes(index)) continue;
    const value = valueOf(index);
    if (found.length === most && value >= (values[most - 1] as number)) continue;
    let at = found.length;
    while (at > 0 && (values[at - 1] as number) > value) at -= 1;
    found.splice(at, 0, index);
    values.splice(at, 0, value);
    if (found.length > most) {
      found.pop();
      values.pop();
    }
  }
  return found;
}
