import type { MemberEntry } from '@guildhall/common';
import { control } from '@guildhall/proto';

/** Number of layers and experts of the model that test workers serve. */
export const LAYERS = 3;
export const EXPERTS = 8;

export interface TestWorker {
  id: string;
  incarnation?: bigint;
  fingerprint?: string;
  numericsId?: string;
  slots?: number;
  acked?: number;
  draining?: boolean;
  holdings?: control.LayerHoldings[];
  failureDomain?: string;
  usPerRow?: number;
  usPerMessage?: number;
  loadProblem?: { code: string; text: string };
  /** Has the files of these only. */
  loadable?: control.LayerHoldings[];
}

/** Bytes of a worker's entry; 10 bytes an expert. */
export function workerValue(worker: TestWorker): Buffer {
  return Buffer.from(
    control.Member.encode(
      control.Member.fromPartial({
        kind: control.MemberKind.MEMBER_KIND_EXPERT,
        id: worker.id,
        incarnation: worker.incarnation ?? 1n,
        address: '127.0.0.1:1',
        modelFingerprint: worker.fingerprint ?? 'model-a',
        numericsId: worker.numericsId ?? 'class-a',
        weightCapacityBytes: BigInt((worker.slots ?? 1000) * 10),
        expertBytes: 10n,
        ackedEpoch: BigInt(worker.acked ?? 0),
        numLayers: LAYERS,
        numExperts: EXPERTS,
        draining: worker.draining ?? false,
        holdings: worker.holdings ?? [],
        failureDomain: worker.failureDomain ?? '',
        usPerRow: worker.usPerRow ?? 0,
        usPerMessage: worker.usPerMessage ?? 0,
        loadProblemCode: worker.loadProblem?.code ?? '',
        loadProblem: worker.loadProblem?.text ?? '',
        partialCheckpoint: worker.loadable !== undefined,
        loadable: worker.loadable ?? [],
      }),
    ).finish(),
  );
}

export function workerEntry(worker: TestWorker): MemberEntry {
  return { kind: 'expert', id: worker.id, incarnation: worker.incarnation ?? 1n, value: workerValue(worker) };
}

export function routerEntry(id: string, acked: number, fingerprint = 'model-a'): MemberEntry {
  const value = control.Member.encode(
    control.Member.fromPartial({
      kind: control.MemberKind.MEMBER_KIND_ROUTER,
      id,
      modelFingerprint: fingerprint,
      numericsId: 'class-a',
      ackedEpoch: BigInt(acked),
    }),
  ).finish();
  return { kind: 'router', id, incarnation: 1n, value: Buffer.from(value) };
}
