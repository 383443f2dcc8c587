import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import type { V1Container, V1HTTPGetAction, V1Probe } from '@kubernetes/client-node';
import type { ExecResult } from './runtime.ts';

/** Where an action is carried out. */
export interface ActionTarget {
  podIP: string;
  container: V1Container;
  exec(argv: readonly string[], timeoutMs: number): Promise<ExecResult>;
}

/** How an action went. */
export interface ActionResult {
  ok: boolean;
  message: string;
}

/** A port by its number or by its name in the container. The client library gives both as `IntOrString`. */
export function portOf(container: V1Container, port: string | number): number {
  const named = container.ports?.find(({ name }) => name === port)?.containerPort;
  const number = named ?? Number(port);
  if (!Number.isInteger(number) || number < 1) throw new Error(`container ${container.name} has no port ${port}`);
  return number;
}

function failure(error: unknown): ActionResult {
  return { ok: false, message: error instanceof Error ? error.message : String(error) };
}

/** GET as a kubelet does it: certificates are not checked, and every status from 200 to 399 is a success. */
export async function httpAction(
  target: ActionTarget,
  action: V1HTTPGetAction,
  timeoutMs: number,
): Promise<ActionResult> {
  const secure = action.scheme === 'HTTPS';
  const headers = Object.fromEntries((action.httpHeaders ?? []).map(({ name, value }) => [name, value]));
  const options = {
    host: action.host ?? target.podIP,
    port: portOf(target.container, action.port),
    path: action.path ?? '/',
    headers: { 'user-agent': 'kube-probe/guildhall-bench', accept: '*/*', ...headers },
    agent: false as const,
    rejectUnauthorized: false,
  };
  return await new Promise((resolve) => {
    const sent = (secure ? httpsRequest : httpRequest)(options, (response) => {
      response.resume();
      const code = response.statusCode ?? 0;
      response.once('close', () => clearTimeout(timer));
      resolve({ ok: code >= 200 && code < 400, message: `HTTP probe failed with statuscode: ${code}` });
    });
    const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    sent.once('error', (error) => {
      clearTimeout(timer);
      resolve(failure(error));
    });
    sent.end();
  });
}

async function tcpAction(target: ActionTarget, port: string | number, timeoutMs: number): Promise<ActionResult> {
  return await new Promise((resolve) => {
    const socket = connect({ host: target.podIP, port: portOf(target.container, port), timeout: timeoutMs });
    const end = (result: ActionResult): void => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => end({ ok: true, message: '' }));
    socket.once('timeout', () => end({ ok: false, message: `no connection within ${timeoutMs} ms` }));
    socket.once('error', (error) => end(failure(error)));
  });
}

const SERVING = 1;

/** grpc.health.v1.Health/Check, in clear as a kubelet does it. */
async function grpcAction(
  target: ActionTarget,
  port: number,
  service: string,
  timeoutMs: number,
): Promise<ActionResult> {
  const client = new Client(`${target.podIP}:${port}`, credentials.createInsecure());
  const name = Buffer.from(service);
  const request = name.length === 0 ? Buffer.alloc(0) : Buffer.from([0x0a, name.length, ...name]);
  return await new Promise((resolve) => {
    client.makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      request,
      { deadline: Date.now() + timeoutMs },
      (error: Error | null, answer?: Buffer) => {
        client.close();
        if (error !== null) resolve(failure(error));
        // Field 1, a varint: the status.
        else resolve({ ok: answer?.[0] === 0x08 && answer[1] === SERVING, message: 'service unhealthy' });
      },
    );
  });
}

/** Asks what a probe asks, once. Never throws. */
export async function probeAction(target: ActionTarget, probe: V1Probe, timeoutMs: number): Promise<ActionResult> {
  try {
    if (probe.httpGet !== undefined) return await httpAction(target, probe.httpGet, timeoutMs);
    if (probe.tcpSocket !== undefined) return await tcpAction(target, probe.tcpSocket.port, timeoutMs);
    if (probe.grpc !== undefined) return await grpcAction(target, probe.grpc.port, probe.grpc.service ?? '', timeoutMs);
    const { code, output } = await target.exec(probe.exec?.command ?? [], timeoutMs);
    return { ok: code === 0, message: output };
  } catch (error) {
    return failure(error);
  }
}
