import type { Client, ClientDuplexStream, Metadata, MethodDefinition } from '@grpc/grpc-js';

const same = (bytes: Buffer): Buffer => bytes;

/** A bidirectional method whose messages are Buffers as they cross the wire: encoding them is the caller's. */
export function identityBidiDefinition(path: string): MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

/** Opens such a method on a client. */
export function openIdentityStream(
  client: Client,
  path: string,
  metadata: Metadata,
): ClientDuplexStream<Buffer, Buffer> {
  return client.makeBidiStreamRequest(path, same, same, metadata);
}
