import type { control } from '@guildhall/proto';
import { readMembers } from '../store/worker-store.ts';
import type { PlacementRecord } from '../store/placement-store.ts';
import type { LiveWorkers } from '../controllers/workers/controller.ts';
import { EXPERTS, LAYERS, routerEntry, type TestWorker, workerEntry } from './members.ts';

/** The state that the workers' controller would report. */
export function liveOf(workers: TestWorker[], routers: { id: string; acked: number }[] = []): LiveWorkers {
  const entries = [...workers.map(workerEntry), ...routers.map(({ id, acked }) => routerEntry(id, acked))];
  const infos = readMembers(entries);
  return {
    model: { fingerprint: 'model-a', numericsId: 'class-a' },
    workers: infos.workers,
    foreign: [],
    routers: infos.routers,
    ackedEpoch: 0,
    joinedMs: 0,
    expected: [],
  };
}

/** A placement that gives expert e of every layer to the worker that `holder` names. */
export function placementOf(epoch: number, workers: string[], holder: (expert: number) => string): PlacementRecord {
  const layer = Array.from({ length: EXPERTS }, (_, expert) => [workers.indexOf(holder(expert))]);
  return {
    epoch,
    fingerprint: 'model-a',
    numericsId: 'class-a',
    assignment: { workers, holders: Array.from({ length: LAYERS }, () => layer) },
    predicted: null,
  };
}

/** Every layer with the same experts. */
export function everyLayer(...experts: number[]): control.LayerHoldings[] {
  return Array.from({ length: LAYERS }, (_, layer) => ({ layer, experts }));
}
