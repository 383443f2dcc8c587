import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { lockFile, systemClock } from '@guildhall/common';
import { RECIPES, type Recipe } from './recipes.ts';

export { VERSIONS } from './versions.ts';

/** Groups of programs that are made together. */
export type Group = keyof typeof RECIPES;

/** A program of the bench. */
export type Program =
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'kube-proxy'
  | 'etcd'
  | 'kwok'
  | 'helm'
  | 'helm3'
  | 'kubectl'
  | 'valkey-server';

/** Where the programs are kept: `$GUILDHALL_K8S_CACHE`, else `~/.cache/guildhall-k8s`. */
export function cacheFolder(): string {
  return process.env['GUILDHALL_K8S_CACHE'] ?? join(homedir(), '.cache', 'guildhall-k8s');
}

function recipeOf(program: Program): Recipe {
  const recipe = Object.values(RECIPES).find(({ programs }) => programs.includes(program));
  if (recipe === undefined) throw new Error(`no recipe makes ${program}`);
  return recipe;
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Where a program is or will be. A file of that name in `$GUILDHALL_K8S_BIN` goes before the cache. */
export function programPath(program: Program): string {
  const given = process.env['GUILDHALL_K8S_BIN'];
  if (given !== undefined && executable(join(given, program))) return join(given, program);
  return join(cacheFolder(), recipeOf(program).folder, program);
}

/** The programs that are missing of those asked for. */
export function missingPrograms(programs: readonly Program[]): Program[] {
  return programs.filter((program) => !executable(programPath(program)));
}

/**
 * Builds or gets what is missing of these programs and returns where each is. Callers at the same time wait for each other.
 * @param say gets a line for each group that takes time.
 */
export async function ensurePrograms<P extends Program>(
  programs: readonly P[],
  say: (line: string) => void = (line) => process.stderr.write(`k8s bench: ${line}\n`),
): Promise<Record<P, string>> {
  const recipes = new Set(missingPrograms(programs).map(recipeOf));
  for (const recipe of recipes) await make(recipe, say);
  return Object.fromEntries(programs.map((program) => [program, programPath(program)])) as Record<P, string>;
}

async function make(recipe: Recipe, say: (line: string) => void): Promise<void> {
  const cache = cacheFolder();
  mkdirSync(cache, { recursive: true });
  const what = recipe.programs.join(', ');
  const lock = await lockFile(join(cache, `${recipe.folder}.lock`), {
    clock: systemClock,
    onWait: ({ pid }) => say(`waiting for process ${pid}, which makes ${what}`),
  });
  try {
    const target = join(cache, recipe.folder);
    if (recipe.programs.every((program) => executable(join(target, program)))) return;
    const started = performance.now();
    say(`${recipe.doing} ${recipe.folder}: ${what}`);
    // A folder appears whole or not at all: an interrupted build leaves nothing that looks finished.
    const draft = mkdtempSync(join(cache, `${recipe.folder}.draft-`));
    try {
      await recipe.make(draft);
      if (existsSync(target)) rmSync(target, { recursive: true });
      renameSync(draft, target);
    } finally {
      rmSync(draft, { recursive: true, force: true });
    }
    say(`${recipe.folder} is there after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  } finally {
    lock.release();
  }
}
