import type { SecureClientSessionOptions } from 'node:http2';
import {
  experimental,
  logVerbosity,
  Server,
  ServerCredentials,
  type ServerOptions,
  setLogVerbosity,
} from '@grpc/grpc-js';
import { systemClock } from '../clock.ts';
import { fail } from '../errors.ts';
import { formatHostPort, parseHostPort } from '../service-options.ts';
import { tokenInterceptor } from './auth.ts';
import { FileCertificates } from './certificates.ts';
import { checkMessageLimit, type TlsConfig, tlsFiles } from './channel.ts';
import { ServerWindow } from './window.ts';

export type GrpcServerConfig = TlsConfig & { clusterToken: string | null };

interface ServerSetup {
  credentials: ServerCredentials;
  window: ServerWindow;
  /** How the start-up check connects to the server itself. */
  probeTls: SecureClientSessionOptions | null;
}

const setups = new WeakMap<Server, ServerSetup>();

function credentialsOf(
  config: GrpcServerConfig,
  tlsRefreshMs: number | undefined,
): Pick<ServerSetup, 'credentials' | 'probeTls'> {
  const files = tlsFiles(config);
  const { cert, key, ca } = files.current();
  if (cert === null || key === null) return { credentials: ServerCredentials.createInsecure(), probeTls: null };
  const certificates = new FileCertificates(files, tlsRefreshMs);
  const authority = ca === null ? null : certificates;
  return {
    // The names of grpc-js 1.14.7 for its first two parameters are swapped: the first is the server's own certificate.
    credentials: experimental.createCertificateProviderServerCredentials(certificates, authority, ca !== null),
    // The check meets its own certificate, whose names need not include the address it binds.
    probeTls: { cert, key, rejectUnauthorized: false },
  };
}

/**
 * A server with large receive windows, the cluster token (when there is one) checked before any message, and TLS
 * from files; with --tls-ca it asks callers for certificates. Files that are replaced count for connections that are made
 * at most `tlsRefreshMs` later. Throws `config_invalid`.
 */
export function createGrpcServer(
  config: GrpcServerConfig,
  options: { maxMessageBytes: number; tlsRefreshMs?: number },
): Server {
  checkMessageLimit(options.maxMessageBytes);
  // What it would print as plain text on stderr also reaches callers and handlers as errors.
  setLogVerbosity(logVerbosity.NONE);
  const { credentials, probeTls } = credentialsOf(config, options.tlsRefreshMs);
  const serverOptions: ServerOptions = {
    'grpc.max_receive_message_length': options.maxMessageBytes,
    'grpc.max_send_message_length': options.maxMessageBytes,
    'grpc.enable_channelz': 0,
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5000,
    interceptors: config.clusterToken === null ? [] : [tokenInterceptor(config.clusterToken)],
  };
  const server = new Server(serverOptions);
  setups.set(server, { credentials, probeTls, window: new ServerWindow(server) });
  return server;
}

/**
 * Binds a server made by createGrpcServer, checks that its receive windows took effect, and returns its address
 * with the port that it got. Throws `config_invalid` when the address cannot be bound.
 */
export async function bindGrpcServer(server: Server, hostPort: string): Promise<string> {
  const setup = setups.get(server);
  if (setup === undefined) throw fail('internal', 'bindGrpcServer needs a server of createGrpcServer');
  const { host } = parseHostPort(hostPort);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(hostPort, setup.credentials, (err, bound) => {
      if (err === null) return resolve(bound);
      reject(fail('config_invalid', `cannot listen on ${hostPort}: ${err.message}`, { field: 'listen', cause: err }));
    });
  });
  const address = formatHostPort(host, port);
  try {
    await setup.window.verify(address, setup.probeTls);
  } catch (err) {
    server.forceShutdown();
    throw err;
  }
  return address;
}

/** Lets calls end for `graceMs`, then cuts them off. */
export async function shutDownGrpcServer(server: Server, graceMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const limit = systemClock.setTimer(graceMs, () => {
      server.forceShutdown();
      resolve();
    });
    server.tryShutdown(() => {
      limit.cancel();
      resolve();
    });
  });
}
