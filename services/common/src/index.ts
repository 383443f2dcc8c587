export { BusyMeter, twoDigits, WindowPercentile, WindowSum } from './window-meters.ts';
export { type Clock, FakeClock, systemClock, type Timer } from './clock.ts';
export { type ConfigRow, type ConfigSources, describeConfig, helpText, loadConfig, redactConfig } from './config.ts';
export { type CoreLeaseBinding, coreLeasesField, openCoreLeases } from './core-leases.ts';
export {
  type ErrorCode,
  type ErrorInfo,
  ERRORS,
  errorInfo,
  errorMessage,
  fail,
  type FailOptions,
  fromGrpc,
  GuildhallError,
  type HttpError,
  isErrorCode,
  isGuildhallError,
  toGrpc,
  toGuildhallError,
  toHttp,
} from './errors.ts';
export { type FileLock, isLocalHolder, type LockHolder, lockFile, tryLockFile } from './file-lock.ts';
export { once } from './once.ts';
export { guildhallHome } from './home.ts';
export { kebabCase, type OptionInfo, type OptionKind, optionsOf } from './options.ts';
export {
  advertisedAddress,
  advertisedAdmin,
  formatHostPort,
  type HostPort,
  hostPortField,
  isLoopback,
  type ListenGuard,
  parseHostPort,
  refuseInsecureListen,
  type ServiceConfig,
  serviceOptions,
} from './service-options.ts';
export { type AdminProbes, type AdminServer, type Readiness, startAdminServer } from './admin.ts';
export {
  newIncarnation,
  processId,
  runService,
  type ServiceContext,
  type ServiceHandle,
  SHUTDOWN_LIMIT_MS,
} from './lifecycle.ts';
export { createLogger, type Logger, type LoggerOptions, type LogLevel } from './logger.ts';
export { type MetricInfo, type MetricName, METRICS, type MetricService } from './metric-table.ts';
export { createMetrics, type Labels, type Metrics } from './metrics.ts';
export {
  MAX_SALT_LENGTH,
  NAME_BYTES,
  type NameSpace,
  nameToHex,
  type PageName,
  PageNames,
  packNames,
  type Producer,
  rootName,
  unpackNames,
} from './kv/page-names.ts';
export { parseRedisUrl, type RedisAddress, type RedisNode } from './redis/address.ts';
export {
  connectRedis,
  type RedisAccess,
  type RedisClientOptions,
  redisOptions,
  type RedisOptionsInput,
  redisRefusal,
} from './redis/client.ts';
export {
  type ClusterRecord,
  EVENT_KINDS,
  isEventKind,
  type EventKind,
  EventLog,
  type EventLogOptions,
} from './redis/event-log.ts';
export { type ClusterEvent, ClusterEvents } from './redis/events.ts';
export { forgetProcesses } from './redis/forget-processes.ts';
export { type AccountKeys, accountKeys, outlivesProcesses, type RedisKeys, redisKeys } from './redis/keys.ts';
export {
  type DrainRequest,
  type DrainSnapshot,
  type DrainState,
  DrainStore,
  type ShrinkBegin,
  type ShrinkId,
  shrinkOf,
} from './redis/drains.ts';
export { type LeaderElection, type LeaderFence, LeaderLock, type LeaderLockOptions } from './redis/leader.ts';
export { LOAD_TTL_MS, LoadStore, type StoredLoad } from './redis/loads.ts';
export {
  LEASE_MS,
  type MemberEntry,
  MemberLease,
  type MemberLeaseOptions,
  MemberView,
  type MemberViewOptions,
  RENEW_MS,
} from './redis/members.ts';
export {
  PlacementStore,
  PlacementView,
  type PlacementViewOptions,
  type PublishResult,
  type StoredPlacement,
} from './redis/placements.ts';
export {
  type DirectoryEntry,
  type EntryKey,
  entryKey,
  type EntryKind,
  type EntryTier,
  parseEntryKey,
} from './redis/directory-codec.ts';
export {
  type DirectoryObserver,
  type DirectoryOp,
  type DirectoryOwner,
  ENTRIES_PER_CALL,
  type EvictAnswer,
  type FenceResult,
  type HolderPrefix,
  isRedisFull,
  type Leases,
  type LookupOptions,
  NAMES_PER_CALL,
  PageDirectory,
  type PageDirectoryOptions,
  type PageLease,
  type PublishAnswer,
  type Refusal,
} from './redis/page-directory.ts';
export { type Quarantined, QuarantineStore } from './redis/quarantine.ts';
export {
  type ChainFault,
  type ResponseChain,
  type ResponseLimits,
  ResponseStore,
  type StoredResponse,
} from './redis/responses.ts';
export { runScript, type ScriptName, SCRIPTS } from './redis/scripts.ts';
export { authMetadata, sameSecret, tokenInterceptor } from './grpc/auth.ts';
export { TLS_REFRESH_MS } from './grpc/certificates.ts';
export { type PemFile, TlsFiles, type TlsMaterial, type TlsPaths } from './tls-files.ts';
export {
  channelCredentials,
  channelOptions,
  checkMessageLimit,
  MAX_MESSAGE_BYTES,
  type TlsConfig,
  WINDOW_BYTES,
} from './grpc/channel.ts';
export { GrpcHealth, type GrpcHealthOptions } from './grpc/health.ts';
export { identityBidiDefinition, openIdentityStream } from './grpc/identity.ts';
export { PacedCall } from './grpc/paced-call.ts';
export { pacedReplies, type ReplyLimits } from './grpc/paced-replies.ts';
export { resetServerCall } from './grpc/reset.ts';
export { bindGrpcServer, createGrpcServer, type GrpcServerConfig, shutDownGrpcServer } from './grpc/server.ts';
export { Cluster, type ClusterOptions } from './redis/cluster.ts';
export { VERSION } from './version.ts';
export { Poller } from './redis/poller.ts';
export { startTicks } from './process-start.ts';
export { openTracing, type OpenTracingOptions } from './telemetry/open-tracing.ts';
export { type TelemetryConfig, telemetryOptions } from './telemetry/telemetry-options.ts';
export { formatTraceparent, parseTraceparent, type TraceContext, traceFields } from './telemetry/trace-context.ts';
export {
  type Attributes,
  type HeadOptions,
  NO_TRACING,
  type Span,
  type SpanOptions,
  type SpanRole,
  type TraceHead,
  type Tracing,
} from './telemetry/tracing.ts';
export { Accounts, type AccountsOptions } from './accounts/accounts.ts';
export {
  apiKeyHash,
  apiKeyId,
  type KeyRecord,
  keyRecordSchema,
  LABEL_NAME,
  MAX_LABEL_VALUE,
  MAX_LABELS,
  newApiKey,
  parseKeyRecord,
  type Quota,
  TENANT_NAME,
} from './accounts/key-record.ts';
export { ApiKeyStore, type KeyChanges, type NewKey, type StoredKey } from './accounts/key-store.ts';
export {
  type QuotaAnswer,
  type QuotaAsk,
  type QuotaRefusal,
  type QuotaState,
  QuotaStore,
  type QuotaSubject,
  type SubjectPair,
} from './accounts/quota-store.ts';
export {
  addUsage,
  HOUR_MS,
  MAX_USAGE_HOURS,
  noUsage,
  type UsageCounts,
  type UsageRow,
  UsageStore,
  type UsageSubject,
} from './accounts/usage-store.ts';
