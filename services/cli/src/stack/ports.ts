import { createServer } from 'node:net';
import { fail } from '@guildhall/common';

/** True if `host:port` can be bound now. */
export function canListen(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A port that was free a moment ago. For programs that cannot report the port that they were given. */
export function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen({ host, port: 0, exclusive: true }, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/**
 * Address of the gateway. An address that was asked for must be free; the default moves on to the next free port.
 * Errors: `config_invalid` when the asked-for address is taken or malformed.
 */
export async function chooseGatewayAddress(asked: string | null): Promise<string> {
  const match = /^(\[[0-9a-f:]+\]|[^:]+):(\d{1,5})$/i.exec(asked ?? '127.0.0.1:8000');
  if (match === null) {
    throw fail('config_invalid', `--listen: '${asked}' is not HOST:PORT`, { field: 'listen' });
  }
  const host = match[1] as string;
  const port = Number(match[2]);
  if (port === 0 || (await canListen(host.replace(/^\[|\]$/g, ''), port))) return `${host}:${port}`;
  if (asked !== null) {
    throw fail(
      'config_invalid',
      `--listen: ${asked} is taken by another program; choose another port or leave it out`,
      {
        field: 'listen',
      },
    );
  }
  for (let next = port + 1; next < port + 100; next++) {
    if (await canListen(host, next)) return `${host}:${next}`;
  }
  return `${host}:0`;
}
