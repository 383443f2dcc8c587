import { EventEmitter, once } from 'node:events';
import {
  type ClientHttp2Session,
  connect,
  type Http2Server,
  type Http2Session,
  type SecureClientSessionOptions,
} from 'node:http2';
import type { Server, ServerCredentials } from '@grpc/grpc-js';
import { systemClock } from '../clock.ts';
import { errorMessage, fail } from '../errors.ts';
import { formatHostPort, parseHostPort } from '../service-options.ts';
import { WINDOW_BYTES } from './channel.ts';

/** Private members of grpc-js 1.14.7 that decide about the server's windows; the version is pinned for them. */
interface ServerInternals {
  commonServerOptions?: { settings?: Record<string, unknown> };
  createHttp2Server?: (credentials: ServerCredentials) => Http2Server;
}

/** Windows of a server's newest connection, as Node reports them. */
export interface WindowState {
  stream: number;
  connection: number;
}

const PROBE_LIMIT_MS = 5000;

/**
 * Gives a server receive windows of 8 MiB, per stream and per connection. grpc-js has no option for it (its
 * `grpc-node.flow_control_window` counts on clients only), hence the private members; `verify` finds out whether
 * they still do what they did.
 */
export class ServerWindow {
  readonly #sessions = new EventEmitter();

  constructor(server: Server) {
    const internals = server as unknown as ServerInternals;
    const create = internals.createHttp2Server?.bind(server);
    if (create === undefined || internals.commonServerOptions === undefined) {
      throw fail('internal', 'this version of @grpc/grpc-js has no place to set the receive window');
    }
    const { commonServerOptions } = internals;
    commonServerOptions.settings = { ...commonServerOptions.settings, initialWindowSize: WINDOW_BYTES };
    internals.createHttp2Server = (credentials) => {
      const http2Server = create(credentials);
      http2Server.on('session', (session: Http2Session) => {
        session.setLocalWindowSize(WINDOW_BYTES);
        this.#sessions.emit('session', session);
      });
      return http2Server;
    };
  }

  /** Connects once to the bound server and throws `internal` unless both windows are in force. */
  async verify(address: string, tls: SecureClientSessionOptions | null): Promise<WindowState> {
    const state = await this.#probe(address, tls);
    if (state.stream < WINDOW_BYTES || state.connection < WINDOW_BYTES) {
      throw fail(
        'internal',
        `receive windows are ${state.stream} and ${state.connection} bytes instead of ${WINDOW_BYTES}`,
      );
    }
    return state;
  }

  async #probe(address: string, tls: SecureClientSessionOptions | null): Promise<WindowState> {
    const { host, port } = parseHostPort(address);
    const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
    const authority = `${tls === null ? 'http' : 'https'}://${formatHostPort(reachable, port)}`;
    const abort = new AbortController();
    const limit = systemClock.setTimer(PROBE_LIMIT_MS, () => abort.abort());
    const accepted = once(this.#sessions, 'session', { signal: abort.signal });
    const client: ClientHttp2Session = connect(authority, tls ?? {});
    try {
      const settled = once(client, 'remoteSettings', { signal: abort.signal });
      const [[session]] = (await Promise.all([accepted, settled])) as [[Http2Session], unknown];
      return {
        stream: client.remoteSettings.initialWindowSize ?? 0,
        connection: session.state.effectiveLocalWindowSize ?? 0,
      };
    } catch (err) {
      throw fail('internal', `cannot check the receive window of ${address}: ${errorMessage(err)}`, { cause: err });
    } finally {
      limit.cancel();
      abort.abort();
      accepted.catch(() => undefined);
      client.on('error', () => undefined);
      client.destroy();
    }
  }
}
