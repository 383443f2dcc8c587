import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fail, guildhallHome } from '@guildhall/common';
import { isCommit, tryRepoSpec, type RepoSpec } from './repo-spec.ts';

/** A model that a flag named: where its files are and under which name it is served unless another is given. */
export interface FoundModel {
  dir: string;
  /** `org/name` of a pulled model; null for a folder, whose own name serves. */
  name: string | null;
}

/** Pulled models: `HOME/models/<org>--<name>/<commit>/`, and beside them what each branch or tag meant. */
export class ModelStore {
  readonly home: string;

  /** @param env GUILDHALL_HOME, by default `~/.guildhall`. */
  constructor(env: Record<string, string | undefined>) {
    this.home = guildhallHome(env);
  }

  /** Folder of a commit. */
  commitDir(repo: string, commit: string): string {
    return join(this.#repoDir(repo), commit);
  }

  /** Notes which commit a revision stood for, so that it can be found without the hub. */
  writeRef(repo: string, revision: string, commit: string): void {
    const refs = join(this.#repoDir(repo), 'refs');
    mkdirSync(refs, { recursive: true });
    const path = join(refs, encodeURIComponent(revision));
    writeFileSync(`${path}.${process.pid}`, `${commit}\n`);
    renameSync(`${path}.${process.pid}`, path);
  }

  /** Commit that a revision stood for when it was pulled last, or null. */
  readRef({ repo, revision }: RepoSpec): string | null {
    if (isCommit(revision)) return revision;
    try {
      const text = readFileSync(join(this.#repoDir(repo), 'refs', encodeURIComponent(revision)), 'utf8').trim();
      return isCommit(text) ? text : null;
    } catch {
      return null;
    }
  }

  /**
   * What a `--model` flag means: a folder with a checkpoint, or `org/name[@revision]` that was pulled.
   * @throws checkpoint_not_found with what to do about it.
   */
  find(model: string): FoundModel {
    const dir = resolve(model);
    if (existsSync(join(dir, 'config.json'))) return { dir, name: null };
    const spec = existsSync(dir) ? null : tryRepoSpec(model);
    if (spec === null) {
      throw fail('checkpoint_not_found', `--model: ${dir} holds no config.json`, { field: 'model' });
    }
    const commit = this.readRef(spec);
    const found = commit === null ? null : this.commitDir(spec.repo, commit);
    if (found !== null && existsSync(join(found, 'config.json'))) return { dir: found, name: spec.repo };
    throw fail('checkpoint_not_found', this.#missing(model, spec), { field: 'model' });
  }

  #missing(model: string, spec: RepoSpec): string {
    const refs = join(this.#repoDir(spec.repo), 'refs');
    const pulled = existsSync(refs) ? readdirSync(refs).map(decodeURIComponent) : [];
    const others = pulled.length === 0 ? '' : `; pulled of ${spec.repo} so far: ${pulled.join(', ')}`;
    return `--model: there is no folder ${model}, and ${model} has not been pulled; run: guildhall pull ${model}${others}`;
  }

  #repoDir(repo: string): string {
    return join(this.home, 'models', repo.replace('/', '--'));
  }
}
