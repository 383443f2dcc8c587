import type { KvPool, StatePool } from '@guildhall/native';
import { fail } from '@guildhall/common';
import type { PoolTransfer } from './restorer.ts';

/** Transfers of the native pools. */
export function nativeTransfer(kv: KvPool, states: StatePool | null): PoolTransfer {
  const pool = (): StatePool => {
    if (states === null) throw fail('internal', 'a model without states has none to move');
    return states;
  };
  return {
    exportPages: (pages, group) => kv.exportPages(pages, group),
    importPages: (pages, parts) => kv.importPages(pages, parts),
    exportState: async (slot) => await pool().exportState(slot),
    importState: async (slot, data) => await pool().importState(slot, data),
  };
}
