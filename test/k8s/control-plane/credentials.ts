import 'reflect-metadata';
import { generateKeyPairSync, randomBytes, webcrypto as crypto } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';

/** The first address of the Service range: what `kubernetes.default` gets. */
export const API_SERVICE_IP = '10.96.0.1';
export const SERVICE_RANGE = '10.96.0.0/16';

/** Files and secrets that the control plane starts with. */
export interface Credentials {
  /** Certificate authority of the API server, PEM. */
  ca: string;
  caFile: string;
  certificateFile: string;
  keyFile: string;
  /** Signs the tokens of service accounts. */
  serviceAccountKeyFile: string;
  tokensFile: string;
  /** Bearer token of a member of system:masters. */
  adminToken: string;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;

function pem(buffer: ArrayBuffer, label: string): string {
  return x509.PemConverter.encode(buffer, label);
}

/** Makes everything in `folder`. `addresses` are those that the API server is reached at. */
export async function makeCredentials(folder: string, addresses: readonly string[]): Promise<Credentials> {
  x509.cryptoProvider.set(crypto);
  const dates = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + 30 * DAY_MS) };
  const authority = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...dates,
    name: 'CN=guildhall-test-bench',
    keys: authority,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature, true),
    ],
  });
  const server = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const names = [
    'localhost',
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    ...dates,
    subject: 'CN=kube-apiserver',
    issuer: ca.subject,
    signingKey: authority.privateKey,
    publicKey: server.publicKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.SubjectAlternativeNameExtension([
        ...names.map((value) => ({ type: 'dns' as const, value })),
        ...[...new Set(['127.0.0.1', API_SERVICE_IP, ...addresses])].map((value) => ({ type: 'ip' as const, value })),
      ]),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    ],
  });
  const adminToken = randomBytes(24).toString('base64url');
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const signer = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    ca: ca.toString('pem'),
    caFile: write('ca.crt', `${ca.toString('pem')}\n`),
    certificateFile: write('apiserver.crt', `${certificate.toString('pem')}\n`),
    keyFile: write(
      'apiserver.key',
      `${pem(await crypto.subtle.exportKey('pkcs8', server.privateKey), 'PRIVATE KEY')}\n`,
    ),
    serviceAccountKeyFile: write('sa.key', signer.privateKey.export({ type: 'pkcs1', format: 'pem' }) as string),
    tokensFile: write('tokens.csv', `${adminToken},bench-admin,bench-admin,system:masters\n`),
    adminToken,
  };
}
