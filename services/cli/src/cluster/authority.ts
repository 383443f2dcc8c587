// The X.509 library needs this polyfill to be there first.
import 'reflect-metadata';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  type webcrypto,
  X509Certificate,
} from 'node:crypto';
import { isIP } from 'node:net';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  X509Certificate as ParsedCertificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { errorMessage, fail } from '@guildhall/common';

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
/** Certificates count from a little earlier on, for machines whose clocks differ. */
const BACKDATE_MS = 10 * 60_000;
const AUTHORITY_DAYS = 3650;

/** A key and what goes with it, as PEM texts. */
export interface KeyedPem {
  key: string;
  /** A certificate or a request for one. */
  pem: string;
}

export interface Issued {
  /** PEM of the certificate and, after it, of the authority. */
  chain: string;
  /** Lower-case hex. */
  serial: string;
  expiresAtMs: number;
}

export interface IssueOptions {
  /** Who it is for. */
  name: string;
  /** IP addresses and host names under which it is reached. */
  addresses: readonly string[];
  days: number;
  nowMs: number;
}

/** What a certificate is known by: SHA-256 of its DER, base64url. */
export function certificateHash(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('base64url');
}

/** A new key, and a request that proves that its owner has it. The key does not leave this machine. */
export async function makeRequest(name: string): Promise<KeyedPem> {
  const pair = generateKeyPairSync('ec', { namedCurve: ECDSA.namedCurve });
  const keys = { privateKey: toSigner(pair.privateKey), publicKey: toVerifier(pair.publicKey) };
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys,
    signingAlgorithm: ECDSA,
  });
  return { key: toPem(pair.privateKey), pem: request.toString('pem') };
}

/** The certificate authority of one cluster. */
export class Authority {
  readonly certificate: string;
  readonly hash: string;
  readonly #parsed: ParsedCertificate;
  readonly #signer: webcrypto.CryptoKey;

  private constructor(certificate: string, signer: webcrypto.CryptoKey) {
    this.certificate = certificate;
    this.#parsed = new ParsedCertificate(certificate);
    this.hash = certificateHash(new X509Certificate(certificate).raw);
    this.#signer = signer;
  }

  /** A new authority; `key` is the only secret that can sign for it. */
  static async create(name: string, nowMs: number): Promise<KeyedPem> {
    const pair = generateKeyPairSync('ec', { namedCurve: ECDSA.namedCurve });
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: newSerial(),
      name: [{ CN: [name] }],
      notBefore: new Date(nowMs - BACKDATE_MS),
      notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
      signingAlgorithm: ECDSA,
      keys: { privateKey: toSigner(pair.privateKey), publicKey: toVerifier(pair.publicKey) },
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      ],
    });
    return { key: toPem(pair.privateKey), pem: certificate.toString('pem') };
  }

  /** Throws `config_invalid` when certificate and key do not go together. */
  static load(certificate: string, key: string): Authority {
    try {
      const signer = createPrivateKey(key);
      if (!new X509Certificate(certificate).checkPrivateKey(signer)) throw fail('config_invalid', 'wrong key');
      return new Authority(certificate, toSigner(signer));
    } catch (err) {
      throw fail('config_invalid', `the cluster's authority cannot be used: ${errorMessage(err)}`, { cause: err });
    }
  }

  /**
   * Signs a request: the key is the requester's, name and addresses are ours to say. Throws `invalid_value` for a
   * request that is malformed, not signed by its key, or has a key of another kind than P-256.
   */
  async sign(requestPem: string, options: IssueOptions): Promise<Issued> {
    const publicKey = await verifiedKey(requestPem);
    const expiresAtMs = options.nowMs + options.days * DAY_MS;
    const serialNumber = newSerial();
    const certificate = await X509CertificateGenerator.create({
      serialNumber,
      subject: [{ CN: [options.name] }],
      issuer: this.#parsed.subject,
      notBefore: new Date(options.nowMs - BACKDATE_MS),
      notAfter: new Date(expiresAtMs),
      signingAlgorithm: ECDSA,
      signingKey: this.#signer,
      publicKey,
      extensions: memberExtensions(options.addresses),
    });
    const chain = `${certificate.toString('pem')}\n${this.certificate.trim()}\n`;
    return { chain, serial: serialNumber, expiresAtMs };
  }

  /** A new key with its certificate, for processes of this machine. */
  async issue(options: IssueOptions): Promise<Issued & { key: string }> {
    const { key, pem } = await makeRequest(options.name);
    return { ...(await this.sign(pem, options)), key };
  }
}

function memberExtensions(addresses: readonly string[]): Extension[] {
  const names = addresses.map((address) => ({
    type: isIP(address) === 0 ? ('dns' as const) : ('ip' as const),
    value: address,
  }));
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
    new SubjectAlternativeNameExtension(names),
  ];
}

async function verifiedKey(requestPem: string): Promise<webcrypto.CryptoKey> {
  let key: KeyObject;
  let proven: boolean;
  try {
    const request = new Pkcs10CertificateRequest(requestPem);
    proven = await request.verify();
    key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' });
  } catch (err) {
    throw fail('invalid_value', `the certificate request cannot be read: ${errorMessage(err)}`, {
      field: 'csr',
      cause: err,
    });
  }
  if (!proven) throw fail('invalid_value', 'the certificate request is not signed by its key', { field: 'csr' });
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw fail('invalid_value', 'the key of a certificate request must be ECDSA P-256', { field: 'csr' });
  return toVerifier(key);
}

/** 127 random bits, positive as X.509 wants it. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function toSigner(key: KeyObject): webcrypto.CryptoKey {
  return key.toCryptoKey(ECDSA, false, ['sign']);
}

function toVerifier(key: KeyObject): webcrypto.CryptoKey {
  return key.toCryptoKey(ECDSA, true, ['verify']);
}

function toPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
