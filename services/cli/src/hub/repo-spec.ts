import { fail } from '@guildhall/common';

/** A repository of the hub at a revision. */
export interface RepoSpec {
  /** `org/name`, or `name` for the few old ones without an owner. */
  repo: string;
  /** Branch, tag or commit hash. */
  revision: string;
}

export const DEFAULT_REVISION = 'main';

const PART = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
const COMMIT = /^[0-9a-f]{40}$/;

/** True for a full commit hash, which never moves. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/**
 * Reads `org/name` or `org/name@revision`.
 * @throws config_invalid.
 */
export function parseRepoSpec(text: string): RepoSpec {
  const spec = tryRepoSpec(text);
  if (spec !== null) return spec;
  throw fail('config_invalid', `'${text}' names no repository: expected org/name or org/name@revision`);
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
