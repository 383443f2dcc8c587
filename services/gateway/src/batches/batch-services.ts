import type { Metadata, ServiceError } from '@grpc/grpc-js';
import { type Clock, fail, fromGrpc } from '@guildhall/common';
import { type batches, control } from '@guildhall/proto';
import type { MemberSource } from '../routing/router-pool.ts';

/** How a process of the batch service is reached. */
export interface BatchConnection {
  client: batches.BatchesClient;
  metadata: Metadata;
}

export interface BatchServicesOptions {
  members: MemberSource;
  connect: (address: string) => BatchConnection;
  clock: Clock;
}

/** Unary calls of the service: what each takes and gives. */
interface UnaryCalls {
  getFile: [batches.OwnedId, batches.StoredFile];
  listFiles: [batches.ListRequest, batches.FileList];
  deleteFile: [batches.OwnedId, batches.StoredFile];
  createBatch: [batches.CreateBatchRequest, batches.BatchRecord];
  getBatch: [batches.OwnedId, batches.BatchRecord];
  listBatches: [batches.ListRequest, batches.BatchList];
  cancelBatch: [batches.OwnedId, batches.BatchRecord];
  createUpload: [batches.CreateUploadRequest, batches.UploadRecord];
  completeUpload: [batches.CompleteUploadRequest, batches.UploadRecord];
  cancelUpload: [batches.OwnedId, batches.UploadRecord];
}

/** The client's methods, each with the one signature that is used. */
type UnaryClient = {
  [Name in keyof UnaryCalls]: (
    request: UnaryCalls[Name][0],
    metadata: Metadata,
    options: { deadline: number },
    callback: (error: ServiceError | null, reply: UnaryCalls[Name][1]) => void,
  ) => unknown;
};

const DEADLINE_MS = 10_000;
/** A file of many gigabytes is put together from its parts. */
const COMPLETION_DEADLINE_MS = 600_000;

/** The processes of the batch service that are alive, with a channel to each that was used. */
export class BatchServices {
  readonly #options: BatchServicesOptions;
  readonly #connections = new Map<string, BatchConnection>();
  #turn = 0;

  constructor(options: BatchServicesOptions) {
    this.#options = options;
  }

  /** One of them, in turn. Throws `not_ready` when there is none. */
  pick(): BatchConnection {
    const addresses = this.#addresses();
    this.#forgetAllBut(addresses);
    const address = addresses[this.#turn++ % Math.max(1, addresses.length)];
    if (address === undefined)
      throw fail('not_ready', 'files and batches are not served here: no batch service is running');
    const known = this.#connections.get(address);
    if (known !== undefined) return known;
    const made = this.#options.connect(address);
    this.#connections.set(address, made);
    return made;
  }

  /** Calls one of them. Errors: those of the service, `not_ready`, `peer_unavailable`. */
  async call<Name extends keyof UnaryCalls>(name: Name, request: UnaryCalls[Name][0]): Promise<UnaryCalls[Name][1]> {
    const { client, metadata } = this.pick();
    const limitMs = name === 'completeUpload' ? COMPLETION_DEADLINE_MS : DEADLINE_MS;
    const options = { deadline: this.#options.clock.nowMs() + limitMs };
    return await new Promise((resolve, reject) => {
      const calls: UnaryClient = client;
      calls[name](request, metadata, options, (error, reply) => {
        if (error === null) resolve(reply);
        else reject(fromGrpc(error));
      });
    });
  }

  close(): void {
    this.#forgetAllBut([]);
  }

  #addresses(): string[] {
    return this.#options.members
      .members()
      .filter(({ kind }) => kind === 'batch')
      .map(({ value }) => control.Member.decode(value))
      .filter(({ ready, draining }) => ready && !draining)
      .map(({ address }) => address);
  }

  #forgetAllBut(addresses: readonly string[]): void {
    for (const [address, { client }] of this.#connections) {
      if (addresses.includes(address)) continue;
      client.close();
      this.#connections.delete(address);
    }
  }
}
