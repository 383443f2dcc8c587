import { containersOf, type Manifest, matches, ofKind, workloads, type Workload } from './manifests.ts';
import type { Rule } from './rules.ts';

interface Peer {
  podSelector?: { matchLabels?: Record<string, string> };
  namespaceSelector?: unknown;
  ipBlock?: unknown;
}

interface PolicyRule {
  from?: Peer[];
  to?: Peer[];
  ports?: { port: number; protocol: string }[];
}

interface Policy {
  podSelector: { matchLabels: Record<string, string> };
  policyTypes: string[];
  ingress?: PolicyRule[];
  egress?: PolicyRule[];
}

const policyOf = (object: Manifest): Policy => object.spec as unknown as Policy;

/** Peers within the namespace, which must be pods of the release. */
function inner(rule: PolicyRule): Record<string, string>[] {
  return [...(rule.from ?? []), ...(rule.to ?? [])].flatMap(({ podSelector, namespaceSelector }) =>
    podSelector === undefined || namespaceSelector !== undefined ? [] : [podSelector.matchLabels ?? {}],
  );
}

function allows(rule: PolicyRule, labels: Record<string, string>, port: number): boolean {
  const peers = rule.from ?? rule.to;
  const reaches = peers === undefined || inner(rule).some((selector) => matches(selector, labels));
  return reaches && (rule.ports ?? []).some((one) => one.port === port);
}

/** Which of the two pods' policies let one call the other at a port: that of the caller, and that of the callee. */
export function allowed(
  objects: readonly Manifest[],
  from: Workload,
  to: Workload,
  port: number,
): { out: boolean; into: boolean } {
  const policies = ofKind(objects, 'NetworkPolicy').map(policyOf);
  const of = (pod: Workload): Policy[] =>
    policies.filter(({ podSelector }) => matches(podSelector.matchLabels, pod.labels));
  const out = of(from).flatMap(({ egress = [] }) => egress);
  const into = of(to).flatMap(({ ingress = [] }) => ingress);
  return {
    out: out.some((rule) => allows(rule, to.labels, port)),
    into: into.some((rule) => allows(rule, from.labels, port)),
  };
}

/** Every pod is denied everything, peers exist, and the ports that are opened are ports of the pods. */
export const networkPolicies: Rule = (objects) => {
  const policies = ofKind(objects, 'NetworkPolicy');
  if (policies.length === 0) return [];
  const pods = workloads(objects);
  const uncovered = pods.filter(
    ({ labels }) => !policies.some((object) => matches(policyOf(object).podSelector.matchLabels, labels)),
  );
  const faults = uncovered.map(({ object }) => `${object.kind} ${object.metadata.name} has no policy`);
  for (const object of policies) {
    const { policyTypes, podSelector, ingress = [], egress = [] } = policyOf(object);
    const say = (what: string): void => void faults.push(`NetworkPolicy ${object.metadata.name} ${what}`);
    if (policyTypes.join() !== 'Ingress,Egress') say('leaves a direction open');
    for (const selector of [...ingress, ...egress].flatMap(inner)) {
      if (!pods.some(({ labels }) => matches(selector, labels))) say(`names ${JSON.stringify(selector)}`);
    }
    const own = pods.filter(({ labels }) => matches(podSelector.matchLabels, labels));
    const open = new Set(
      own.flatMap(({ pod }) => containersOf(pod)).flatMap(({ ports = [] }) => ports.map((p) => p.containerPort)),
    );
    for (const { port } of ingress.flatMap(({ ports = [] }) => ports)) {
      if (!open.has(port)) say(`opens ${port}, at which nothing listens`);
    }
  }
  return faults;
};
