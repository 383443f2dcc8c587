import type { KubeClient } from '../api/client.ts';
import { apiFailureOf } from '../api/api-error.ts';
import { type LeaseObject, leaseSchema, timeMs } from '../api/objects.ts';

/** What a Lease says, and the version that a write must name. */
export interface LeaseRecord {
  version: string;
  /** Empty when nobody holds it. */
  holder: string;
  durationMs: number;
  transitions: number;
  /** When the holder took it and last renewed it, as it wrote them; compared only, never believed. */
  acquired: string;
  renewed: string;
  /** When the Lease was created, s since the Unix epoch by the API server's clock. */
  bornS: number;
  /** What others wrote into its metadata, to be left as it is. */
  metadata: Pick<LeaseObject['metadata'], 'labels' | 'annotations' | 'ownerReferences'>;
}

export interface LeaseWrite {
  holder: string;
  durationMs: number;
  transitions: number;
  acquired: string;
  renewed: string;
}

/** Who a Lease belongs to, so that it goes with them. */
export interface LeaseOwner {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
}

/** One Lease of coordination.k8s.io/v1. */
export class LeaseStore {
  readonly #client: KubeClient;
  readonly #collection: string;
  readonly #namespace: string;
  readonly #name: string;
  readonly #timeoutMs: number;

  /** `timeoutMs` bounds each request: one that takes longer than a renewal may take is of no use. */
  constructor(client: KubeClient, namespace: string, name: string, timeoutMs: number) {
    this.#client = client;
    this.#collection = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
    this.#namespace = namespace;
    this.#name = name;
    this.#timeoutMs = timeoutMs;
  }

  /** Null when there is none. Errors: as of the client. */
  async read(): Promise<LeaseRecord | null> {
    try {
      const path = `${this.#collection}/${this.#name}`;
      return recordOf(await this.#client.json({ method: 'GET', path, timeoutMs: this.#timeoutMs }));
    } catch (err) {
      if (apiFailureOf(err).status === 404) return null;
      throw err;
    }
  }

  /** Writes it over the record that was read, or a new one over null; null when somebody else wrote first. */
  async write(over: LeaseRecord | null, write: LeaseWrite, owner: LeaseOwner | null): Promise<LeaseRecord | null> {
    const name = this.#name;
    const references = over?.metadata.ownerReferences ?? [];
    const owners = owner === null || references.length > 0 ? references : [owner];
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: {
        ...over?.metadata,
        name,
        namespace: this.#namespace,
        ownerReferences: owners,
        ...(over === null ? {} : { resourceVersion: over.version }),
      },
      spec: {
        holderIdentity: write.holder,
        leaseDurationSeconds: Math.max(1, Math.round(write.durationMs / 1000)),
        acquireTime: write.acquired,
        renewTime: write.renewed,
        leaseTransitions: write.transitions,
      },
    };
    const query = { fieldManager: FIELD_MANAGER };
    const at = over === null ? this.#collection : `${this.#collection}/${name}`;
    try {
      const method = over === null ? 'POST' : 'PUT';
      return recordOf(await this.#client.json({ method, path: at, query, body, timeoutMs: this.#timeoutMs }));
    } catch (err) {
      const { status } = apiFailureOf(err);
      if (status === 409 || status === 404) return null;
      throw err;
    }
  }
}

/** Name under which the API server notes what this controller writes. */
export const FIELD_MANAGER = 'guildhall-controller';

function recordOf(object: unknown): LeaseRecord {
  const { metadata, spec }: LeaseObject = leaseSchema.parse(object);
  return {
    version: metadata.resourceVersion,
    holder: spec.holderIdentity ?? '',
    durationMs: (spec.leaseDurationSeconds ?? 0) * 1000,
    transitions: spec.leaseTransitions ?? 0,
    acquired: spec.acquireTime ?? '',
    renewed: spec.renewTime ?? '',
    bornS: Math.floor((timeMs(metadata.creationTimestamp) ?? 0) / 1000),
    metadata: {
      labels: metadata.labels,
      annotations: metadata.annotations,
      ownerReferences: metadata.ownerReferences,
    },
  };
}
