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
  /** False for a worker that may not be used now. */
  usable: (worker: number) => boolean;
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
 * least one of its entries. Among several holders: one that gets the row anyhow, then the one with the fewest
 * entries so far; the bits of the result do not depend on the choice. Rows are never split between messages to the
 * same worker, so a limit must allow a row with all its entries.
 */
export function planParts(input: PlanInput): Plan {
  const workerOf = assignWorkers(input);
  const { numWorkers } = input;
  const parts: Part[] = [];
  for (let worker = 0; worker < numWorkers; worker++) {
    const mine = select(input.entries, workerOf, worker);
    if (mine !== null) parts.push(...split(mine, worker, input));
  }
  return { parts, missing: select(input.entries, workerOf, MISSING) };
}

const MISSING = -1;

function assignWorkers(input: PlanInput): Int32Array {
  const { entries, holders, layer, numWorkers } = input;
  const usable = Array.from({ length: numWorkers }, (_, worker) => input.usable(worker));
  const state: Assignment = {
    workerOf: new Int32Array(entries.experts.length).fill(MISSING),
    load: new Int32Array(numWorkers),
    lastRow: new Int32Array(numWorkers).fill(-1),
  };
  const open: number[] = [];
  let entry = 0;
  for (let row = 0; row < entries.entryCount.length; row++) {
    open.length = 0;
    for (const end = entry + (entries.entryCount[row] as number); entry < end; entry++) {
      const key = layer * holders.numExperts + (entries.experts[entry] as number);
      const from = holders.start[key] as number;
      const count = (holders.start[key + 1] as number) - from;
      const first = holders.list[from] as number;
      if (count > 1) open.push(entry);
      else if (count === 1 && usable[first] === true) assign(state, entry, row, first);
    }
    for (const choice of open) assign(state, choice, row, bestHolder(input, state, usable, choice, row));
  }
  return state.workerOf;
}

interface Assignment {
  workerOf: Int32Array;
  /** Entries given to each worker so far. */
  load: Int32Array;
  /** Last row that each worker got an entry of. */
  lastRow: Int32Array;
}

function assign(state: Assignment, entry: number, row: number, worker: number): void {
  if (worker === MISSING) return;
  state.workerOf[entry] = worker;
  state.load[worker] = (state.load[worker] as number) + 1;
  state.lastRow[worker] = row;
}

function bestHolder(
  input: PlanInput,
  state: Assignment,
  usable: readonly boolean[],
  entry: number,
  row: number,
): number {
  const { holders } = input;
  const key = input.layer * holders.numExperts + (input.entries.experts[entry] as number);
  const to = holders.start[key + 1] as number;
  let best = MISSING;
  for (let i = holders.start[key] as number; i < to; i++) {
    const worker = holders.list[i] as number;
    if (usable[worker] !== true) continue;
    if (best === MISSING || better(worker, best, row, state.load, state.lastRow)) best = worker;
  }
  return best;
}

function better(worker: number, than: number, row: number, load: Int32Array, lastRow: Int32Array): boolean {
  const has = lastRow[worker] === row;
  if (has !== (lastRow[than] === row)) return has;
  return (load[worker] as number) < (load[than] as number);
}

/** 0, 1, 2, … `Int32Array.from` goes through an iterator, which costs as much as the message for a large batch. */
function upTo(count: number): Int32Array {
  const numbers = new Int32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = i;
  return numbers;
}

/** The entries assigned to `worker`, or null if there are none. */
function select(entries: Entries, workerOf: Int32Array, worker: number): Entries | null {
  const picked = new Int32Array(workerOf.length);
  const rows = new Int32Array(entries.rowIndex.length);
  const counts = new Int32Array(entries.rowIndex.length);
  let numPicked = 0;
  let numRows = 0;
  let at = 0;
  for (let row = 0; row < entries.entryCount.length; row++) {
    const end = at + (entries.entryCount[row] as number);
    const before = numPicked;
    for (; at < end; at++) {
      if (workerOf[at] === worker) picked[numPicked++] = at;
    }
    if (numPicked === before) continue;
    rows[numRows] = entries.rowIndex[row] as number;
    counts[numRows++] = numPicked - before;
  }
  if (numPicked === 0) return null;
  return pick(entries, rows.subarray(0, numRows), counts.subarray(0, numRows), picked.subarray(0, numPicked));
}

function pick(entries: Entries, rowIndex: Int32Array, entryCount: Int32Array, picked: Int32Array): Entries {
  const experts = new Int32Array(picked.length);
  const weights = new Float32Array(picked.length);
  const slots = new Int32Array(picked.length);
  for (let i = 0; i < picked.length; i++) {
    const entry = picked[i] as number;
    experts[i] = entries.experts[entry] as number;
    weights[i] = entries.weights[entry] as number;
    slots[i] = entries.slots[entry] as number;
  }
  return { rowIndex, entryCount, experts, weights, slots };
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
