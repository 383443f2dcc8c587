import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fail } from '@guildhall/common';

const SUBNET = '10.77.0';
const BRIDGE = 'lab0';

/** A host of the network: a namespace with one address on the bridge. */
export interface Host {
  name: string;
  /** Address of its only link. */
  ip: string;
  /** Name of its link, within it. */
  link: string;
  /** Name of the other end, which is a port of the bridge. */
  port: string;
}

/** Runs a program to its end. Throws `internal` with what it said when it fails. @returns its standard output. */
export function run(program: string, args: readonly string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', input });
  if (status === 0) return stdout;
  throw fail('internal', `${[program, ...args].join(' ')}: ${(error?.message ?? stderr).trim()}`);
}

/** Arguments that run a command on a host: the process that is started becomes it, under the same number. */
export function onHost(host: Host, command: string, args: readonly string[]): [string, string[]] {
  return ['nsenter', [`--net=/run/netns/${host.name}`, '--', command, ...args]];
}

/** Hosts behind one bridge, in the network namespace of this process, which has an address there too. */
export class Network {
  /** Folder in memory that ends with the network. */
  readonly dir = '/run/guildhall';
  /** Address of this process on the bridge. */
  readonly ip = `${SUBNET}.1`;
  readonly #hosts = new Map<string, Host>();
  #next = 10;

  /** Makes the bridge. The process must be in a sandbox: names and addresses are taken as if nobody else were there. */
  constructor() {
    // A file system of our own: names of namespaces, and what is kept for hosts, end with it.
    run('mount', ['-t', 'tmpfs', 'tmpfs', '/run']);
    mkdirSync('/run/netns');
    mkdirSync(this.dir);
    run('ip', ['link', 'set', 'lo', 'up']);
    run('ip', ['link', 'add', BRIDGE, 'type', 'bridge']);
    run('ip', ['address', 'add', `${this.ip}/24`, 'dev', BRIDGE]);
    run('ip', ['link', 'set', BRIDGE, 'up']);
  }

  /** A host by its name, made when it is new. */
  host(name: string): Host {
    const known = this.#hosts.get(name);
    if (known !== undefined) return known;
    const number = this.#next++;
    const host: Host = { name, ip: `${SUBNET}.${number}`, link: 'eth0', port: `port${number}` };
    run('ip', ['netns', 'add', name]);
    run('ip', ['link', 'add', host.port, 'type', 'veth', 'peer', 'name', host.link, 'netns', name]);
    run('ip', ['link', 'set', host.port, 'master', BRIDGE, 'up']);
    this.exec(host, 'ip', ['link', 'set', 'lo', 'up']);
    this.exec(host, 'ip', ['address', 'add', `${host.ip}/24`, 'dev', host.link]);
    this.exec(host, 'ip', ['link', 'set', host.link, 'up']);
    this.#hosts.set(name, host);
    return host;
  }

  get hosts(): Host[] {
    return [...this.#hosts.values()];
  }

  /** Runs a program on a host to its end. Throws as `run` does. */
  exec(host: Host, program: string, args: readonly string[], input = ''): string {
    const [command, rest] = onHost(host, program, args);
    return run(command, rest, input);
  }
}
