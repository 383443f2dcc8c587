import { type Host, type Network, run } from './network.ts';

const TABLE = 'impairments';
const CHAINS = `
table inet ${TABLE} {
  chain input { type filter hook input priority 0; }
  chain output { type filter hook output priority 0; }
}
`;

/** Puts a rule into the input or output chain of a host. */
function addRule(network: Network, host: Host, chain: 'input' | 'output', rule: string): void {
  network.exec(host, 'nft', ['-f', '-'], `${CHAINS}add rule inet ${TABLE} ${chain} ${rule}\n`);
}

/** Nothing that `from` sends to `to` arrives, from now on; the other way works. */
export function dropOneWay(network: Network, from: Host, to: Host): void {
  addRule(network, to, 'input', `ip saddr ${from.ip} counter drop`);
}

/** Nothing passes between two hosts, neither way. */
export function partition(network: Network, a: Host, b: Host): void {
  dropOneWay(network, a, b);
  dropOneWay(network, b, a);
}

/** Nothing reaches a host and nothing leaves it. */
export function isolate(network: Network, host: Host): void {
  addRule(network, host, 'input', 'meta iifname != "lo" counter drop');
  addRule(network, host, 'output', 'meta oifname != "lo" counter drop');
}

/** Each packet of a host is lost with this chance, per cent, on its way in and on its way out. */
export function lose(network: Network, host: Host, percent: number): void {
  for (const chain of ['input', 'output'] as const) {
    addRule(network, host, chain, `numgen random mod 100 < ${percent} counter drop`);
  }
}

/** Packets of more than `bytes` that `from` sends to `to` are lost. */
export function dropLarge(network: Network, from: Host, to: Host, bytes: number): void {
  addRule(network, from, 'output', `ip daddr ${to.ip} meta length > ${bytes} counter drop`);
}

/** Packets that rules of a host have dropped since they were put there. */
export function droppedAt(network: Network, host: Host): number {
  const rules = network.exec(host, 'nft', ['-f', '-'], `${CHAINS}list table inet ${TABLE}\n`);
  return [...rules.matchAll(/counter packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
}

/** A host's link carries this many Mbit/s each way. */
export function limitRate(network: Network, host: Host, mbit: number): void {
  const shape = ['root', 'tbf', 'rate', `${mbit}mbit`, 'burst', '32k', 'latency', '400ms'];
  network.exec(host, 'tc', ['qdisc', 'replace', 'dev', host.link, ...shape]);
  run('tc', ['qdisc', 'replace', 'dev', host.port, ...shape]);
}

/** Undoes all impairments of a host. */
export function clearImpairments(network: Network, host: Host): void {
  network.exec(host, 'nft', ['-f', '-'], `${CHAINS}delete table inet ${TABLE}\n`);
  for (const [clear, dev] of [
    [(args: string[]) => network.exec(host, 'tc', args), host.link],
    [(args: string[]) => run('tc', args), host.port],
  ] as const) {
    if (clear(['qdisc', 'show', 'dev', dev, 'root']).includes('tbf')) clear(['qdisc', 'del', 'dev', dev, 'root']);
  }
}
