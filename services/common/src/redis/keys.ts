/** Names of everything a cluster keeps in Redis. All share one hash tag, hence one slot. */
export interface RedisKeys {
  /** Prefix of every key. */
  prefix: string;
  /** Hash `incarnation`, `value` with a lease as its expiry. */
  member(kind: string, id: string): string;
  /** Set of `kind/id`; may name members whose lease is over. */
  members: string;
  /** Prefix of the member keys, for scripts that append `kind:id`. */
  memberPrefix: string;
  /** Random word written by whoever comes first; a different one means that Redis lost its data. */
  generation: string;
  /** Number of the current placement epoch. */
  epochCurrent: string;
  /** Immutable bytes of one placement. */
  placement(epoch: number): string;
  /** Hash `owner`, `fence` with a lease as its expiry. */
  leader: string;
  /** Counter behind the fencing numbers. */
  leaderFence: string;
  /** Bytes of the latest load report of a reporter. */
  load(reporter: string): string;
  loadPrefix: string;
  /** Set of reporters; may name some whose report has expired. */
  loads: string;
  /** JSON text that a service writes about itself for `guildhall status`. */
  status(name: string): string;
  /** Pub/sub channel; messages are `members`, `leave:<kind>/<id>` and `epoch`. */
  events: string;
}

/** Key names of a cluster; the only place where they are spelt. */
export function redisKeys(cluster: string): RedisKeys {
  const prefix = `gh:{${cluster}}:`;
  return {
    prefix,
    member: (kind, id) => `${prefix}member:${kind}:${id}`,
    members: `${prefix}members`,
    memberPrefix: `${prefix}member:`,
    generation: `${prefix}generation`,
    epochCurrent: `${prefix}epoch:current`,
    placement: (epoch) => `${prefix}placement:${epoch}`,
    leader: `${prefix}leader`,
    leaderFence: `${prefix}leader:fence`,
    load: (reporter) => `${prefix}load:${reporter}`,
    loadPrefix: `${prefix}load:`,
    loads: `${prefix}loads`,
    status: (name) => `${prefix}status:${name}`,
    events: `${prefix}events`,
  };
}
