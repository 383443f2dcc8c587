import { readFile, writeFile } from 'node:fs/promises';
import { SERVICE_RANGE } from '../control-plane/credentials.ts';
import { attempt, run } from './command.ts';

/** Addresses of pods; each node has a /24 of it. */
export const POD_RANGE = '10.244.0.0/16';
/** What pods send to, on every link: the node. */
const GATEWAY = '169.254.1.1';
const NODE_LINK = 'node0';

/** The network of one pod: a namespace with one link to the node. */
export interface PodLink {
  namespace: string;
  ip: string;
  /** The node's end of it. */
  link: string;
}

/** Address of a node. */
export function nodeIP(index: number): string {
  return `10.240.0.${index + 1}`;
}

/** Makes this network namespace a node: addresses for the nodes of the bench, and forwarding between pods. */
export async function prepareNodeNetwork(nodes: number): Promise<void> {
  await run('ip', ['link', 'set', 'lo', 'up']);
  await run('ip', ['link', 'add', NODE_LINK, 'type', 'bridge']);
  for (let index = 0; index < nodes; index += 1) {
    await run('ip', ['address', 'add', `${nodeIP(index)}/24`, 'dev', NODE_LINK]);
  }
  await run('ip', ['link', 'set', NODE_LINK, 'up']);
  await writeFile('/proc/sys/net/ipv4/ip_forward', '1');
  for (const which of ['all', 'default']) await writeFile(`/proc/sys/net/ipv4/conf/${which}/rp_filter`, '0');
  // kube-proxy changes the addresses of Services after the route was chosen: there must be one.
  await run('ip', ['route', 'add', SERVICE_RANGE, 'dev', NODE_LINK]);
  await run('ip', ['route', 'add', 'unreachable', POD_RANGE]);
}

/** Takes back what `prepareNodeNetwork` and kube-proxy made. */
export async function removeNodeNetwork(): Promise<void> {
  await attempt('ip', ['link', 'delete', NODE_LINK]);
  await attempt('ip', ['route', 'delete', 'unreachable', POD_RANGE]);
  await attempt('nft', ['flush', 'ruleset']);
}

/**
 * Gives pods their network. Pods are routed, not bridged: every packet between two pods passes the node's netfilter
 * hooks, where kube-proxy changes Service addresses on the way there and back.
 */
export class PodNetwork {
  readonly #node: number;
  readonly #used = new Set<number>();
  #next = 2;

  constructor(node: number) {
    this.#node = node;
  }

  #take(): number {
    for (let tries = 0; tries < 250; tries += 1) {
      const host = this.#next;
      this.#next = this.#next >= 251 ? 2 : this.#next + 1;
      if (!this.#used.has(host)) {
        this.#used.add(host);
        return host;
      }
    }
    throw new Error('no pod address is free');
  }

  /** Makes a namespace with an address. */
  async attach(): Promise<PodLink> {
    const host = this.#take();
    const ip = `10.244.${this.#node + 1}.${host}`;
    const pod: PodLink = { namespace: `pod-${this.#node}-${host}`, ip, link: `veth${this.#node}-${host}` };
    await attempt('ip', ['netns', 'delete', pod.namespace]);
    await run('ip', ['netns', 'add', pod.namespace]);
    const commands = [
      `link add ${pod.link} type veth peer name eth0 netns ${pod.namespace}`,
      `address add ${GATEWAY}/32 dev ${pod.link}`,
      `link set ${pod.link} up`,
      `route add ${ip}/32 dev ${pod.link}`,
    ];
    await run('ip', ['-batch', '-'], commands.join('\n'));
    const inside = [
      'link set lo up',
      `address add ${ip}/32 dev eth0`,
      'link set eth0 up',
      `route add ${GATEWAY} dev eth0 scope link`,
      `route add default via ${GATEWAY} dev eth0`,
    ];
    await run('ip', ['-netns', pod.namespace, '-batch', '-'], inside.join('\n'));
    return pod;
  }

  /** Takes a pod's network away. */
  async detach(pod: PodLink): Promise<void> {
    await attempt('ip', ['link', 'delete', pod.link]);
    await attempt('ip', ['netns', 'delete', pod.namespace]);
    this.#used.delete(Number(pod.ip.split('.')[3]));
  }
}

/** Cuts a pod off or connects it again: its packets go nowhere, as with a broken switch. */
export async function setLink(pod: PodLink, up: boolean): Promise<void> {
  await run('ip', ['link', 'set', pod.link, up ? 'up' : 'down']);
  if (up) await run('ip', ['route', 'replace', `${pod.ip}/32`, 'dev', pod.link]);
}

/** How much memory this machine has, bytes. */
export async function machineMemory(): Promise<number> {
  const match = /^MemTotal:\s+(\d+) kB/m.exec(await readFile('/proc/meminfo', 'utf8'));
  return Number(match?.[1]) * 1024;
}
