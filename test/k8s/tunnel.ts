import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ControlPlane } from './control-plane/cluster.ts';

/** Names folder and port of the tunnel for the process in the sandbox. */
export const TUNNEL = 'GUILDHALL_K8S_TUNNEL';

function pipe(left: Socket, right: Socket): void {
  left.pipe(right).pipe(left);
  left.once('error', () => right.destroy());
  right.once('error', () => left.destroy());
}

function forward(open: () => Socket): Server {
  return createServer((socket) => pipe(socket, open()));
}

/**
 * Listens on loopback of this machine for what goes into a sandbox, whose network is another one. A socket in a folder
 * leads from one to the other. @returns what the process in the sandbox needs to know.
 */
export async function openTunnel(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'guildhall-k8s-'));
  const server = forward(() => connect(join(folder, 'api.sock')));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return `${folder}:${(server.address() as { port: number }).port}`;
}

/** The end in the sandbox. @returns a kubeconfig file for programs outside. */
export async function tunnelTo(cluster: ControlPlane): Promise<string> {
  const [folder = '', port = ''] = (process.env[TUNNEL] ?? '').split(':');
  const target = new URL(cluster.url);
  const server = forward(() => connect(Number(target.port), target.hostname));
  server.listen(join(folder, 'api.sock'));
  await once(server, 'listening');
  server.unref();
  return cluster.writeKubeconfig(
    join(folder, 'kubeconfig'),
    cluster.credentials.adminToken,
    `https://127.0.0.1:${port}`,
  );
}
