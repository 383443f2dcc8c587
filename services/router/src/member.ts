import { control } from '@guildhall/proto';
import type { MeasuredLoad } from './load-meter.ts';

/** What a router writes about itself in Redis. */
export interface RouterMember extends MeasuredLoad {
  id: string;
  incarnation: bigint;
  address: string;
  admin: string;
  node: string;
  version: string;
  modelFingerprint: string;
  numericsId: string;
  ackedEpoch: number;
  ready: boolean;
  draining: boolean;
  servedModels: readonly string[];
  numLayers: number;
  numExperts: number;
  running: number;
  waiting: number;
  /** Tokens of a named page; 0 where prefixes are not shared. */
  pageTokens: number;
  /** Prompt tokens that wait for prefill or are in it. */
  pendingPrefillTokens: number;
  prefillMsPerToken: number;
  decodeStepMs: number;
  /** Share of the KV pages that sequences use. */
  kvUsage: number;
  /** Experts in the router's own process. */
  holdings: readonly { layer: number; experts: readonly number[] }[];
}

/** A member's entry, or null for bytes that are none. */
export function decodeMember(bytes: Uint8Array): control.Member | null {
  try {
    return control.Member.decode(bytes);
  } catch {
    return null;
  }
}

export function encodeMember(state: RouterMember): Uint8Array {
  const { admin, ackedEpoch, servedModels, holdings, pendingPrefillTokens, ...rest } = state;
  return control.Member.encode(
    control.Member.fromPartial({
      ...rest,
      kind: control.MemberKind.MEMBER_KIND_ROUTER,
      adminAddress: admin,
      ackedEpoch: BigInt(ackedEpoch),
      pendingPrefillTokens: BigInt(pendingPrefillTokens),
      servedModels: [...servedModels],
      holdings: holdings.map(({ layer, experts }) => ({ layer, experts: [...experts] })),
    }),
  ).finish();
}
