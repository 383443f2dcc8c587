import { rootCertificates } from 'node:tls';
import type { experimental } from '@grpc/grpc-js';
import { systemClock, type Timer } from '../clock.ts';
import type { TlsFiles, TlsMaterial } from '../tls-files.ts';

type CertificateProvider = experimental.CertificateProvider;
type CaListener = Parameters<CertificateProvider['addCaCertificateListener']>[0];
type IdentityListener = Parameters<CertificateProvider['addIdentityCertificateListener']>[0];

/** How often files are looked at: a rotation begins days before the old certificate ends. */
export const TLS_REFRESH_MS = 10_000;

/**
 * Gives grpc-js the certificates of files, and again whenever they were replaced: connections that are made from then on use
 * them, those that exist go on. Files are looked at while somebody listens.
 */
export class FileCertificates implements CertificateProvider {
  readonly #files: TlsFiles;
  readonly #refreshMs: number;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();
  #known: TlsMaterial;
  #timer: Timer | null = null;

  constructor(files: TlsFiles, refreshMs = TLS_REFRESH_MS) {
    this.#files = files;
    this.#refreshMs = refreshMs;
    this.#known = files.current();
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#refresh();
    this.#caListeners.add(listener);
    // A server of grpc-js 1.14.7 misses what it is told while it subscribes.
    queueMicrotask(() => listener({ caCertificate: caOf(this.#known) }));
    this.#watch();
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
    this.#watch();
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#refresh();
    this.#identityListeners.add(listener);
    queueMicrotask(() => listener(identityOf(this.#known)));
    this.#watch();
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
    this.#watch();
  }

  #watch(): void {
    const wanted = this.#caListeners.size + this.#identityListeners.size > 0;
    if (wanted) this.#timer ??= systemClock.setInterval(this.#refreshMs, () => this.#refresh());
    if (wanted) return;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #refresh(): void {
    const next = this.#files.current();
    if (next === this.#known) return;
    this.#known = next;
    for (const listener of this.#caListeners) listener({ caCertificate: caOf(next) });
    for (const listener of this.#identityListeners) listener(identityOf(next));
  }
}

/** Without an authority of one's own, those that Node trusts. */
function caOf({ ca }: TlsMaterial): Buffer {
  return ca ?? Buffer.from(rootCertificates.join('\n'));
}

function identityOf({ cert, key }: TlsMaterial): Parameters<IdentityListener>[0] {
  return cert === null || key === null ? null : { certificate: cert, privateKey: key };
}
