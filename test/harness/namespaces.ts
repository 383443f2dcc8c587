import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

const SUBNET = '10.88.0';

/** What keeps network namespaces from being made here, or null. */
export function namespaceProblem(): string | null {
  const script = 'ip link add br0 type bridge && mount -t tmpfs none /mnt';
  const { status, stderr, error } = spawnSync('unshare', ['--net', '--mount', 'sh', '-c', script], {
    encoding: 'utf8',
  });
  if (status === 0) return null;
  return `no network namespaces here: ${(error?.message ?? stderr).trim().split('\n').at(-1)}`;
}

/** A process that keeps namespaces alive until its stdin ends: nothing is left when the test is killed. */
async function hold(setup: string): Promise<ChildProcess> {
  const holder = spawn(
    'unshare',
    ['--net', '--mount', 'sh', '-c', `ip link set lo up; ${setup} echo ready; exec cat`],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  await once(holder.stdout as NodeJS.ReadableStream, 'data');
  return holder;
}

function enter(holder: ChildProcess): string[] {
  return [`--target=${holder.pid}`, '--net', '--mount', '--'];
}

/** A machine of its own as far as network and some folders go: addresses, ports and loopback are not shared. */
export class Machine {
  readonly name: string;
  readonly ip: string;
  readonly #holder: ChildProcess;

  constructor(name: string, ip: string, holder: ChildProcess) {
    this.name = name;
    this.ip = ip;
    this.#holder = holder;
  }

  /** Starts a program there; the process that is started becomes it. */
  spawn(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    return spawn('nsenter', [...enter(this.#holder), command, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Runs a program there to its end. */
  async run(
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = this.spawn(command, args, env);
    let [stdout, stderr] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, stdout, stderr };
  }

  /** Runs a module's text in Node there and returns what it printed as JSON. Throws with what it said. */
  async script(source: string, env: NodeJS.ProcessEnv = {}): Promise<unknown> {
    const { code, stdout, stderr } = await this.run(process.execPath, ['--input-type=module', '--eval', source], env);
    if (code !== 0) throw new Error(`script on ${this.name} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout) as unknown;
  }
}

/** Machines on one bridge, which is in a namespace of its own too: the host sees nothing of it. */
export class MachineNetwork {
  readonly #holders: ChildProcess[];
  readonly #machines: ReadonlyMap<string, Machine>;

  private constructor(holders: ChildProcess[], machines: ReadonlyMap<string, Machine>) {
    this.#holders = holders;
    this.#machines = machines;
  }

  /** `hidden` names folders that look empty on a machine. */
  static async start(specs: readonly { name: string; hidden?: readonly string[] }[]): Promise<MachineNetwork> {
    const bridge = await hold('ip link add br0 type bridge && ip link set br0 up;');
    const holders = [bridge];
    const machines = new Map<string, Machine>();
    for (const [index, { name, hidden = [] }] of specs.entries()) {
      const holder = await hold(hidden.map((path) => `mount -t tmpfs none '${path}';`).join(' '));
      const ip = `${SUBNET}.${index + 10}`;
      const inBridge = (...args: string[]): void => ip4(bridge, args);
      inBridge('link', 'add', `port${index}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(holder.pid));
      inBridge('link', 'set', `port${index}`, 'master', 'br0', 'up');
      ip4(holder, ['address', 'add', `${ip}/24`, 'dev', 'eth0']);
      ip4(holder, ['link', 'set', 'eth0', 'up']);
      holders.push(holder);
      machines.set(name, new Machine(name, ip, holder));
    }
    return new MachineNetwork(holders, machines);
  }

  machine(name: string): Machine {
    const machine = this.#machines.get(name);
    if (machine === undefined) throw new Error(`there is no machine ${name}`);
    return machine;
  }

  async stop(): Promise<void> {
    await Promise.all(
      this.#holders.map(async (holder) => {
        holder.stdin?.end();
        if (holder.exitCode === null) await once(holder, 'exit');
      }),
    );
  }
}

function ip4(holder: ChildProcess, args: string[]): void {
  execFileSync('nsenter', [...enter(holder), 'ip', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
}
