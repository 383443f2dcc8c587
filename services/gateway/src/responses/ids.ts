import { randomBytes } from 'node:crypto';

/** Kinds of items, as their ids begin. */
export type ItemPrefix = 'msg' | 'fc' | 'rs' | 'fco';

/** `resp_…`, of 32 hex digits. */
export function newResponseId(): string {
  return `resp_${randomBytes(16).toString('hex')}`;
}

/** Id of an item that says where it is: in which response, on which side, and at which place. */
export function itemIdOf(prefix: ItemPrefix, responseId: string, side: 'input' | 'output', index: number): string {
  return `${prefix}_${responseId.slice('resp_'.length)}${side === 'input' ? 'i' : 'o'}${index}`;
}

/** The response that an item is of; null for an id that no response here gave. */
export function responseOfItem(itemId: string): string | null {
  const hex = /^(?:msg|fc|rs|fco)_([0-9a-f]{32})[io]\d{1,6}$/.exec(itemId)?.[1];
  return hex === undefined ? null : `resp_${hex}`;
}
