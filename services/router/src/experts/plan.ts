import type { ReplicaChoice, WorkerLoads } from './policy/index.ts';

/**
 * Entries of one layer: for some rows of a step, the experts that each of them wants. Row i has `entryCount[i]`
 * consecutive entries, ascending by expert.
 */
export interface Entries {
  /** Rows of the step, ascending. */
  rowIndex: Int32Array;
  entryCount: Int32Array;
  /** Global expert numbers. */
  experts: Int32Array;
  weights: Float32Array;
  /** t*K+k of each entry: where its row belongs in the step. */
  slots: Int32Array;
}

/** Entries that one message carries to one worker. */
export interface Part extends Entries {
  /** Index into the view's workers. */
  worker: number;
}

/** Who holds what: holders of (layer, expert) are list[start[layer*numExperts+expert]] up to the next start. */
export interface HolderTable {
  numExperts: number;
  start: Int32Array;
  /** Worker indexes, ascending by preference. */
  list: Int32Array;
}

/** What bounds the messages to one worker. */
export interface MessageLimits {
  /** Largest request that it takes. */
  requestBytes: number;
  /** Largest reply that the router takes. */
  replyBytes: number;
}

export interface PlanInput {
  entries: Entries;
  layer: number;
  holders: HolderTable;
  numWorkers: number;
  loads: WorkerLoads;
  choice: ReplicaChoice;
  limits: (worker: number) => MessageLimits;
  /** Bytes of one row in the row format. */
  rowBytes: number;
  /** Reply rows: one per entry, or one per request row. */
  replyRows: 'entries' | 'rows';
}

export interface Plan {
  parts: Part[];
  /** Entries that no usable worker holds; null when every one has its worker. */
  missing: Entries | null;
}

/** Fields and tags around the arrays of a message, rounded up. */
const FRAME_OVERHEAD_BYTES = 256;

/** Bytes of a request with these counts: u16 per row, u16 and f32 per entry, and the rows. */
export function requestBytes(rows: number, entries: number, rowBytes: number): number {
  return FRAME_OVERHEAD_BYTES + rows * (2 + rowBytes) + entries * 6;
}

export function replyBytes(replyRows: number, rowBytes: number): number {
  return FRAME_OVERHEAD_BYTES + replyRows * rowBytes;
}

/**
 * Entries of a whole step from the gate's result: `topkIds` and `topkWeights` are [T][K] in any order within a row,
 * each expert at most once.
 */
export function entriesOf(topkIds: Int32Array, topkWeights: Float32Array, numTokens: number, topK: number): Entries {
  const total = numTokens * topK;
  const experts = topkIds.slice(0, total);
  const slots = upTo(total);
  for (let begin = 0; begin < total; begin += topK) {
    // Insertion sort: K is 2 to 10.
    for (let i = begin + 1; i < begin + topK; i++) {
      const expert = experts[i] as number;
      const slot = slots[i] as number;
      let j = i - 1;
      for (; j >= begin && (experts[j] as number) > expert; j--) {
        experts[j + 1] = experts[j] as number;
        slots[j + 1] = slots[j] as number;
      }
      experts[j + 1] = expert;
      slots[j + 1] = slot;
    }
  }
  const weights = new Float32Array(total);
  for (let i = 0; i < total; i++) weights[i] = topkWeights[slots[i] as number] as number;
  return {
    rowIndex: upTo(numTokens),
    entryCount: new Int32Array(numTokens).fill(topK),
    experts,
    weights,
    slots,
  };
}

/**
 * Assigns every entry to one worker and cuts the result into messages. A row goes once to each worker that gets at
 * least one of its entries. Among several holders `choice` decides; the bits of the result do not depend on it. Rows are
 * never split between messages to the same worker, so a limit must allow a row with all its entries.
 */
export function planParts(input: PlanInput): Plan {
  const workerOf = assignWorkers(input);
  const sets = selectAll(input.entries, workerOf, input.numWorkers);
  const parts: Part[] = [];
  for (let worker = 0; worker < input.numWorkers; worker++) {
    const mine = sets[worker] ?? null;
    if (mine !== null) parts.push(...split(mine, worker, input));
  }
  return { parts, missing: sets[input.numWorkers] ?? null };
}

const MISSING = -1;

/** Worker of each entry. Those of a row that have one holder come first, so that the others may join them. */
function assignWorkers(input: PlanInput): Int32Array {
  const { entries, holders, layer, numWorkers, loads, choice } = input;
  const { start, list } = holders;
  choice.begin(numWorkers, loads);
  const workerOf = new Int32Array(entries.experts.length).fill(MISSING);
  const base = layer * holders.numExperts;
  let entry = 0;
  for (let row = 0; row < entries.entryCount.length; row++) {
    const begin = entry;
    const end = begin + (entries.entryCount[row] as number);
    for (let pass = 0; pass < 2; pass++) {
      for (entry = begin; entry < end; entry++) {
        const key = base + (entries.experts[entry] as number);
        const from = start[key] as number;
        const to = start[key + 1] as number;
        if (to - from > 1 !== (pass === 1)) continue;
        const worker = choice.choose(list, from, to, row);
        if (worker === MISSING) continue;
        workerOf[entry] = worker;
        choice.assign(worker, row);
      }
    }
  }
  return workerOf;
}

/** 0, 1, 2, … `Int32Array.from` goes through an iterator, which costs as much as the message for a large batch. */
function upTo(count: number): Int32Array {
  const numbers = new Int32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = i;
  return numbers;
}

/**
 * The entries of each worker, and at `numWorkers` those without one; null where there are none. One pass counts and one
 * fills, however many workers there are.
 */
function selectAll(entries: Entries, workerOf: Int32Array, numWorkers: number): (Entries | null)[] {
  const numEntries = new Int32Array(numWorkers + 1);
  const numRows = new Int32Array(numWorkers + 1);
  const lastRow = new Int32Array(numWorkers + 1).fill(-1);
  let at = 0;
  for (let row = 0; row < entries.entryCount.length; row++) {
    for (const end = at + (entries.entryCount[row] as number); at < end; at++) {
      const set = workerOf[at] === MISSING ? numWorkers : (workerOf[at] as number);
      numEntries[set] = (numEntries[set] as number) + 1;
      if (lastRow[set] === row) continue;
      lastRow[set] = row;
      numRows[set] = (numRows[set] as number) + 1;
    }
  }
  const sets = Array.from(numEntries, (count, set) =>
    count === 0 ? null : emptyEntries(numRows[set] as number, count),
  );
  fillSets(entries, workerOf, sets);
  return sets;
}

function emptyEntries(rows: number, count: number): Entries {
  return {
    rowIndex: new Int32Array(rows),
    entryCount: new Int32Array(rows),
    experts: new Int32Array(count),
    weights: new Float32Array(count),
    slots: new Int32Array(count),
  };
}

function fillSets(entries: Entries, workerOf: Int32Array, sets: readonly (Entries | null)[]): void {
  const missing = sets.length - 1;
  const filled = new Int32Array(sets.length);
  const rows = new Int32Array(sets.length);
  const lastRow = new Int32Array(sets.length).fill(-1);
  let at = 0;
  for (let row = 0; row < entries.entryCount.length; row++) {
    for (const end = at + (entries.entryCount[row] as number); at < end; at++) {
      const index = workerOf[at] === MISSING ? missing : (workerOf[at] as number);
      const set = sets[index] as Entries;
      if (lastRow[index] !== row) {
        lastRow[index] = row;
        set.rowIndex[rows[index] as number] = entries.rowIndex[row] as number;
        rows[index] = (rows[index] as number) + 1;
      }
      const ownRow = (rows[index] as number) - 1;
      set.entryCount[ownRow] = (set.entryCount[ownRow] as number) + 1;
      const to = filled[index] as number;
      filled[index] = to + 1;
      set.experts[to] = entries.experts[at] as number;
      set.weights[to] = entries.weights[at] as number;
      set.slots[to] = entries.slots[at] as number;
    }
  }
}

/** Entries in sets of at most `most` different experts each. */
export function splitByExperts(entries: Entries, most: number): Entries[] {
  const rankOf = new Map<number, number>();
  const setOf = new Int32Array(entries.experts.length);
  for (const [entry, expert] of entries.experts.entries()) {
    const rank = rankOf.get(expert) ?? rankOf.size;
    rankOf.set(expert, rank);
    setOf[entry] = Math.floor(rank / most);
  }
  return selectAll(entries, setOf, Math.ceil(rankOf.size / most)).flatMap((set) => set ?? []);
}

/** The entries of each sequence by itself, `ownerOf` a row of the step. */
export function splitByOwner(entries: Entries, ownerOf: (row: number) => number): Entries[] {
  const indexOf = new Map<number, number>();
  const setOf = new Int32Array(entries.experts.length);
  let at = 0;
  for (let row = 0; row < entries.rowIndex.length; row++) {
    const owner = ownerOf(entries.rowIndex[row] as number);
    const index = indexOf.get(owner) ?? indexOf.size;
    indexOf.set(owner, index);
    for (const end = at + (entries.entryCount[row] as number); at < end; at++) setOf[at] = index;
  }
  return selectAll(entries, setOf, indexOf.size).flatMap((set) => set ?? []);
}

function split(entries: Entries, worker: number, input: PlanInput): Part[] {
  const limits = input.limits(worker);
  const fits = (rows: number, count: number): boolean =>
    requestBytes(rows, count, input.rowBytes) <= limits.requestBytes &&
    replyBytes(input.replyRows === 'entries' ? count : rows, input.rowBytes) <= limits.replyBytes;
  if (fits(entries.rowIndex.length, entries.experts.length)) return [{ worker, ...entries }];
  const parts: Part[] = [];
  let row = 0;
  let entry = 0;
  while (row < entries.entryCount.length) {
    const fromRow = row;
    const fromEntry = entry;
    do {
      entry += entries.entryCount[row] as number;
      row += 1;
    } while (
      row < entries.entryCount.length &&
      fits(row - fromRow + 1, entry - fromEntry + (entries.entryCount[row] as number))
    );
    parts.push({ worker, ...slice(entries, fromRow, row, fromEntry, entry) });
  }
  return parts;
}

function slice(entries: Entries, fromRow: number, toRow: number, fromEntry: number, toEntry: number): Entries {
  return {
    rowIndex: entries.rowIndex.slice(fromRow, toRow),
    entryCount: entries.entryCount.slice(fromRow, toRow),
    experts: entries.experts.slice(fromEntry, toEntry),
    weights: entries.weights.slice(fromEntry, toEntry),
    slots: entries.slots.slice(fromEntry, toEntry),
  };
}

/** Several sets of entries of different rows, or of different experts of the same rows, as one. */
export function mergeEntries(sets: readonly Entries[]): Entries {
  if (sets.length === 1) return sets[0] as Entries;
  const byRow = new Map<number, { expert: number; weight: number; slot: number }[]>();
  for (const set of sets) {
    let at = 0;
    for (let row = 0; row < set.rowIndex.length; row++) {
      const index = set.rowIndex[row] as number;
      const list = byRow.get(index) ?? [];
      byRow.set(index, list);
      for (const end = at + (set.entryCount[row] as number); at < end; at++) {
        list.push({
          expert: set.experts[at] as number,
          weight: set.weights[at] as number,
          slot: set.slots[at] as number,
        });
      }
    }
  }
  const rows = [...byRow].sort(([a], [b]) => a - b);
  for (const [, list] of rows) list.sort((a, b) => a.expert - b.expert);
  const all = rows.flatMap(([, list]) => list);
  return {
    rowIndex: Int32Array.from(rows, ([row]) => row),
    entryCount: Int32Array.from(rows, ([, list]) => list.length),
    experts: Int32Array.from(all, (entry) => entry.expert),
    weights: Float32Array.from(all, (entry) => entry.weight),
    slots: Int32Array.from(all, (entry) => entry.slot),
  };
}
