import { setImmediate as nextTurn } from 'node:timers/promises';
import { type NameSpace, type PageName, PageNames } from '@guildhall/common';

/** Pages that are named between two turns of the event loop: about half a millisecond. */
const SLICE = 256;

/**
 * Whole pages of a prompt that may be reused: its last token is always computed, since its logits are the answer's
 * first.
 */
export function reusablePages(promptTokens: number, pageTokens: number): number {
  return pageTokens > 0 ? Math.max(0, Math.floor((promptTokens - 1) / pageTokens)) : 0;
}

/** Names of the reusable pages of a prompt, in order. Long prompts leave the event loop to others in between. */
export async function namePages(space: NameSpace, promptIds: readonly number[]): Promise<readonly PageName[]> {
  const count = reusablePages(promptIds.length, space.pageTokens);
  const names = new PageNames(space, Int32Array.from(promptIds));
  for (let named = SLICE; named < count; named += SLICE) {
    names.first(named);
    await nextTurn();
  }
  return names.first(count);
}
