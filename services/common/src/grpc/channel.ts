import { checkServerIdentity } from 'node:tls';
import { ChannelCredentials, type ChannelOptions, experimental, type VerifyOptions } from '@grpc/grpc-js';
import { fail } from '../errors.ts';
import { type PemFile, TlsFiles } from '../tls-files.ts';
import { FileCertificates } from './certificates.ts';

/** Receive window of streams and connections; a message larger than it would wait for the other side. */
export const WINDOW_BYTES = 8 << 20;
/** Largest limit that may be configured; larger work is split into several messages. */
export const MAX_MESSAGE_BYTES = 64 << 20;

/** TLS files of a service's configuration. */
export interface TlsConfig {
  tlsCert: string | null;
  tlsKey: string | null;
  tlsCa: string | null;
  /** Name that certificates of peers must carry; null or left out: the address that is called. */
  tlsServerName?: string | null;
}

/**
 * The files of a configuration, read again when they are replaced; `caField` is the option that names the authority. Throws
 * `config_invalid`.
 */
export function tlsFiles(config: TlsConfig, caField = 'tlsCa'): TlsFiles {
  if ((config.tlsCert === null) !== (config.tlsKey === null)) {
    const field = config.tlsCert === null ? 'tlsCert' : 'tlsKey';
    throw fail('config_invalid', '--tls-cert and --tls-key go together', { field });
  }
  const file = (path: string | null, field: string): PemFile | null => (path === null ? null : { path, field });
  return new TlsFiles({
    cert: file(config.tlsCert, 'tlsCert'),
    key: file(config.tlsKey, 'tlsKey'),
    ca: file(config.tlsCa, caField),
  });
}

/** Throws `config_invalid` unless the limit lies between 64 KiB and 64 MiB. */
export function checkMessageLimit(bytes: number): void {
  if (Number.isInteger(bytes) && bytes >= 1 << 16 && bytes <= MAX_MESSAGE_BYTES) return;
  throw fail('config_invalid', `message limit must be 65536 to ${MAX_MESSAGE_BYTES} bytes, got ${bytes}`, {
    field: 'maxMessageBytes',
  });
}

/** Options of a channel between two processes of the cluster: a connection of its own, large windows, no retries. */
export function channelOptions(options: { maxMessageBytes: number }): ChannelOptions {
  checkMessageLimit(options.maxMessageBytes);
  return {
    'grpc.max_receive_message_length': options.maxMessageBytes,
    'grpc.max_send_message_length': options.maxMessageBytes,
    'grpc-node.flow_control_window': WINDOW_BYTES,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.min_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 1000,
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5000,
  };
}

/**
 * TLS (with a client certificate if there is one) where certificates are configured, else plaintext. Files that are replaced
 * count for the connections that follow, at most `tlsRefreshMs` later.
 */
export function channelCredentials(config: TlsConfig, options: { tlsRefreshMs?: number } = {}): ChannelCredentials {
  if (config.tlsCert === null && config.tlsKey === null && config.tlsCa === null)
    return ChannelCredentials.createInsecure();
  const certificates = new FileCertificates(tlsFiles(config), options.tlsRefreshMs);
  return experimental.createCertificateProviderChannelCredentials(
    certificates,
    config.tlsCert === null ? null : certificates,
    verification(config.tlsServerName ?? null),
  );
}

function verification(serverName: string | null): VerifyOptions {
  if (serverName === null) return {};
  return { checkServerIdentity: (_host, certificate) => checkServerIdentity(serverName, certificate) };
}
