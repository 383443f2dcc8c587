import { createHash, timingSafeEqual } from 'node:crypto';
import {
  Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from '@grpc/grpc-js';
import { fail, toGrpc } from '../errors.ts';
import { HEALTH_CHECK_PATH } from './health.ts';

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Compares in a time that depends on neither text: both are hashed first. */
export function sameSecret(given: string, expected: string): boolean {
  return timingSafeEqual(digest(given), digest(expected));
}

/** Metadata of a call to another process of the cluster. */
export function authMetadata(config: { clusterToken: string | null }): Metadata {
  const metadata = new Metadata();
  if (config.clusterToken !== null) metadata.set('authorization', `Bearer ${config.clusterToken}`);
  return metadata;
}

/**
 * Refuses calls without `authorization: Bearer <token>` as UNAUTHENTICATED before any message is read; a health check
 * needs none.
 */
export function tokenInterceptor(token: string): ServerInterceptor {
  return (method, call) => {
    if (method.path === HEALTH_CHECK_PATH) return new ServerInterceptingCall(call);
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        const given = metadata.get('authorization')[0];
        if (typeof given === 'string' && sameSecret(given, `Bearer ${token}`)) return next(metadata);
        const {
          code,
          details,
          metadata: trailer,
        } = toGrpc(fail('unauthorized', 'the cluster token is missing or wrong'));
        call.sendStatus({ code, details, metadata: trailer });
      })
      .build();
    return new ServerInterceptingCall(call, new ResponderBuilder().withStart((next) => next(listener)).build());
  };
}
