import { fail } from '@guildhall/common';

/** A repository of the hub at a revision. */
export interface RepoSpec {
  /** `org/name`, or `name` for the few old ones without an owner. */
  repo: string;
  /** Branch, tag or commit hash. */
  revision: string;
  /** Where it is, for a model in a bucket; absent for one of a hub. */
  s3?: S3Place;
}

/** A prefix of an S3 bucket. */
export interface S3Place {
  bucket: string;
  /** Of every key, with the slash at its end; '' for the whole bucket. */
  prefix: string;
  /** As people write it, without a slash at the end. */
  url: string;
}

export const DEFAULT_REVISION = 'main';
/** Revision of a bucket's model: whatever its list of checksums says. */
const SUMS_REVISION = 'SHA256SUMS';

const PART = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** True for a full commit hash, which never moves. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/**
 * Reads `org/name` or `org/name@revision`, perhaps with `hf://` in front, or `s3://bucket/prefix`.
 * @throws config_invalid.
 */
export function parseRepoSpec(text: string): RepoSpec {
  const spec = text.startsWith('s3://') ? tryS3Spec(text) : tryRepoSpec(text.replace(/^hf:\/\//, ''));
  if (spec !== null) return spec;
  throw fail(
    'config_invalid',
    `'${text}' names no model: expected org/name, org/name@revision, hf://org/name@revision or s3://bucket/prefix`,
  );
}

function tryS3Spec(text: string): RepoSpec | null {
  const [, bucket, path = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(text) ?? [];
  const prefix = path.replace(/\/+$/, '');
  if (bucket === undefined || /[\p{Cc}]/u.test(prefix) || prefix.startsWith('/') || prefix.length > 900) return null;
  const url = `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
  return { repo: url, revision: SUMS_REVISION, s3: { bucket, prefix: prefix === '' ? '' : `${prefix}/`, url } };
}

/** As parseRepoSpec, but null where the text has another form. */
export function tryRepoSpec(text: string): RepoSpec | null {
  const at = text.indexOf('@');
  const repo = at === -1 ? text : text.slice(0, at);
  const revision = at === -1 ? DEFAULT_REVISION : text.slice(at + 1);
  const parts = repo.split('/');
  if (parts.length > 2 || !parts.every(isPart) || !isRevision(revision)) return null;
  return { repo, revision };
}

function isPart(part: string): boolean {
  // The hub refuses the same; `--` is what separates owner and name in the names of our folders.
  return PART.test(part) && !part.includes('--') && !part.includes('..') && !/[.-]$/.test(part);
}

function isRevision(revision: string): boolean {
  // Git's own rules for names, as far as they matter for addresses and files.
  return /^[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}$/.test(revision) && !revision.includes('..');
}
