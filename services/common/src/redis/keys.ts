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
  /** Hash of a router's pages and states, with a lease as its expiry: `#fence`, and a record for each entry. */
  pages(router: string): string;
  pagesPrefix: string;
  /** Hash of the leases that others have on a router's entries. */
  pageLeases(router: string): string;
  /** Set of routers with entries; may name some whose lease is over. */
  pageHolders: string;
  /** Counter behind the fencing numbers of routers. */
  pageFence: string;
  /** Hash `incarnation`, `born`, `fence` of the process that owned a router's entries last. */
  pageOwner(router: string): string;
  /** Stream of what happened to the cluster, newest last, trimmed: `guildhall events`. */
  eventLog: string;
  /** Hash of members that are asked to drain: `kind/id` to JSON text of who asked, when, and what came of it. */
  drains: string;
  /** Sorted set of quarantined requests' fingerprints by the end of their quarantine, in milliseconds of Redis's clock. */
  quarantine: string;
  /** Who has the place for a suspicious request in a router, with a lease as its expiry. */
  probation(router: string): string;
  /** JSON text of a file of the batch service, and the sorted sets of a tenant's files by creation and of all by expiry. */
  file(id: string): string;
  filesOf(tenant: string): string;
  filesByExpiry: string;
  /** Hash of an upload in parts, hash of its parts, and the sorted sets of a tenant's pending ones and of all by expiry. */
  upload(id: string): string;
  uploadParts(id: string): string;
  uploadsOf(tenant: string): string;
  uploadsByExpiry: string;
  /** Hash of a batch, the sorted set of a tenant's batches by creation, lines that are done (bits), and parts of its results. */
  batch(id: string): string;
  batchesOf(tenant: string): string;
  /** Set of the batches that are not over. */
  batchesRunning: string;
  batchDone(id: string): string;
  batchSegments(id: string): string;
  /** Hash of a stored response, the list of what a background one has generated, and their prefixes for scripts. */
  response(id: string): string;
  responsePrefix: string;
  responseLog(id: string): string;
  responseLogPrefix: string;
  /** Sorted set of a tenant's responses, `id:bytes` by when they are forgotten, and the sum of their bytes. */
  responsesOf(tenant: string): string;
  responseBytesOf(tenant: string): string;
  /** Sorted set of background responses that are not over, by the time at which any gateway may take them. */
  responsesRunning: string;
  /** Prefix of BullMQ's own keys. */
  queues: string;
  /** JSON text that a service writes about itself for `guildhall status`. */
  status(name: string): string;
  /** Pub/sub channel; messages are `members`, `leave:<kind>/<id>`, `epoch`, `drains` and `quarantine`. */
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
    pages: (router) => `${prefix}kv:h:${router}`,
    pagesPrefix: `${prefix}kv:h:`,
    pageLeases: (router) => `${prefix}kv:l:${router}`,
    pageHolders: `${prefix}kv:holders`,
    pageFence: `${prefix}kv:fence`,
    pageOwner: (router) => `${prefix}kv:o:${router}`,
    eventLog: `${prefix}event-log`,
    drains: `${prefix}drains`,
    quarantine: `${prefix}quarantine`,
    probation: (router) => `${prefix}probation:${router}`,
    file: (id) => `${prefix}file:${id}`,
    filesOf: (tenant) => `${prefix}files:${tenant}`,
    filesByExpiry: `${prefix}files-by-expiry`,
    upload: (id) => `${prefix}upload:${id}`,
    uploadParts: (id) => `${prefix}upload-parts:${id}`,
    uploadsOf: (tenant) => `${prefix}uploads:${tenant}`,
    uploadsByExpiry: `${prefix}uploads-by-expiry`,
    batch: (id) => `${prefix}batch:${id}`,
    batchesOf: (tenant) => `${prefix}batches:${tenant}`,
    batchesRunning: `${prefix}batches-running`,
    batchDone: (id) => `${prefix}batch-done:${id}`,
    batchSegments: (id) => `${prefix}batch-segments:${id}`,
    response: (id) => `${prefix}response:${id}`,
    responsePrefix: `${prefix}response:`,
    responseLog: (id) => `${prefix}response-log:${id}`,
    responseLogPrefix: `${prefix}response-log:`,
    responsesOf: (tenant) => `${prefix}responses:${tenant}`,
    responseBytesOf: (tenant) => `${prefix}response-bytes:${tenant}`,
    responsesRunning: `${prefix}responses-running`,
    queues: `${prefix}queues`,
    status: (name) => `${prefix}status:${name}`,
    events: `${prefix}events`,
  };
}

/**
 * True for a key that is to outlive the processes of a cluster: accounts, and what clients asked to keep. Everything else is
 * about processes that run, leases above all, and means nothing once all of them have ended.
 */
export function outlivesProcesses(cluster: string, key: string): boolean {
  const accounts = accountKeys(cluster);
  const keys = redisKeys(cluster);
  const whole = [
    accounts.apiKeys,
    keys.filesByExpiry,
    keys.uploadsByExpiry,
    keys.batchesRunning,
    keys.responsesRunning,
  ];
  const prefixes = [
    accounts.apiKeyPrefix,
    accounts.quota(''),
    accounts.usagePrefix,
    accounts.usageSource(''),
    keys.file(''),
    keys.filesOf(''),
    keys.upload(''),
    keys.uploadParts(''),
    keys.uploadsOf(''),
    keys.batch(''),
    keys.batchesOf(''),
    keys.batchDone(''),
    keys.batchSegments(''),
    keys.responsePrefix,
    keys.responseLogPrefix,
    keys.responsesOf(''),
    keys.responseBytesOf(''),
    `${keys.queues}:`,
  ];
  return whole.includes(key) || prefixes.some((prefix) => key.startsWith(prefix));
}

/**
 * Names of what outlives a cluster: API keys, what they have used, and what they may use. One hash tag, hence one slot, which
 * clusters may share that serve the same people.
 */
export interface AccountKeys {
  /** Prefix of every key. */
  prefix: string;
  /** Hash of an API key: `hash` (SHA-256 of it, hex; gone once it is revoked) and `record` (JSON text). */
  apiKey(id: string): string;
  /** Prefix of those hashes, for scripts that append the id. */
  apiKeyPrefix: string;
  /** Sorted set of the ids of API keys by creation; may name some that are gone. */
  apiKeys: string;
  /** Hash of what is left of a subject's quotas: levels of its buckets, and when they were taken. */
  quota(subject: string): string;
  /** Sorted set of a subject's running requests by the end of their leases, in milliseconds of Redis's clock. */
  quotaLeases(subject: string): string;
  /** Hash of what was used within an hour since the Unix epoch: `tenant/key/counter` to a number. */
  usage(hour: number): string;
  usagePrefix: string;
  /** Number of the last report of usage that came from a gateway, so that none counts twice. */
  usageSource(source: string): string;
  /** Pub/sub channel; messages are `key:<id>`. */
  events: string;
}

/** Key names of accounts; the only place where they are spelt. */
export function accountKeys(name: string): AccountKeys {
  const prefix = `gh:{${name}}:`;
  return {
    prefix,
    apiKey: (id) => `${prefix}api-key:${id}`,
    apiKeyPrefix: `${prefix}api-key:`,
    apiKeys: `${prefix}api-keys`,
    quota: (subject) => `${prefix}quota:${subject}`,
    quotaLeases: (subject) => `${prefix}quota-leases:${subject}`,
    usage: (hour) => `${prefix}usage:${hour}`,
    usagePrefix: `${prefix}usage:`,
    usageSource: (source) => `${prefix}usage-source:${source}`,
    events: `${prefix}account-events`,
  };
}
