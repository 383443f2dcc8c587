import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificates {
  ca: string;
  cert: string;
  key: string;
}

function openssl(args: string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** A certificate authority of its own in `dir`, and one certificate for 127.0.0.1 that it signed. */
export function makeCertificates(dir: string, name: string): Certificates {
  const path = (suffix: string): string => join(dir, `${name}-${suffix}`);
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl([
    'req',
    '-x509',
    ...curve,
    '-days',
    '2',
    '-subj',
    `/CN=${name}-ca`,
    '-keyout',
    path('ca.key'),
    '-out',
    path('ca.pem'),
  ]);
  openssl(['req', ...curve, '-subj', `/CN=${name}`, '-keyout', path('key.pem'), '-out', path('request.pem')]);
  writeFileSync(path('extensions'), 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n');
  openssl([
    ...['x509', '-req', '-days', '2', '-in', path('request.pem'), '-CA', path('ca.pem'), '-CAkey', path('ca.key')],
    ...['-CAcreateserial', '-extfile', path('extensions'), '-out', path('cert.pem')],
  ]);
  return { ca: path('ca.pem'), cert: path('cert.pem'), key: path('key.pem') };
}
