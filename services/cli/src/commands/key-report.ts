import type { KeyRecord } from '@guildhall/common';

/** A key as `--json` shows it; the field names are those of the options. */
export function keyJson(record: KeyRecord): Record<string, string | number | string[] | Record<string, string> | null> {
  return {
    id: record.id,
    name: record.name,
    labels: record.labels,
    tenant: record.tenant,
    created: time(record.createdAtMs),
    expires: time(record.expiresAtMs),
    revoked: time(record.revokedAtMs),
    models: record.models,
    priority: record.priority,
    priority_cap: record.priorityCap,
    requests_per_minute: record.requestsPerMinute,
    tokens_per_minute: record.tokensPerMinute,
    concurrency: record.concurrency,
  };
}

function time(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

const HEAD = ['ID', 'TENANT', 'NAME', 'STATE', 'REQ/MIN', 'TOK/MIN', 'AT ONCE', 'PRIO', 'EXPIRES'];

function stateOf({ revokedAtMs, expiresAtMs }: KeyRecord, nowMs: number): string {
  if (revokedAtMs !== null) return 'revoked';
  return expiresAtMs !== null && expiresAtMs <= nowMs ? 'expired' : 'valid';
}

/** A table of keys for people. */
export function keyLines(records: readonly KeyRecord[], nowMs: number): string[] {
  const limit = (value: number | null): string => (value === null ? '-' : String(value));
  const rows = records.map((record) => [
    record.id,
    record.tenant,
    record.name === '' ? '-' : record.name,
    stateOf(record, nowMs),
    limit(record.requestsPerMinute),
    limit(record.tokensPerMinute),
    limit(record.concurrency),
    String(record.priority),
    record.expiresAtMs === null ? 'never' : new Date(record.expiresAtMs).toISOString().slice(0, 16),
  ]);
  return table([HEAD, ...rows]);
}

/** Rows of cells as lines with columns under each other. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
