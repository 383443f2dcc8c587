/**
 * The Kubernetes test bench for people.
 *
 *   node test/k8s/main.ts binaries [GROUP...]   builds or gets the programs it runs
 */
import { type Program, ensurePrograms } from './binaries/index.ts';
import { RECIPES } from './binaries/recipes.ts';

const DEFAULT_GROUPS = ['kubernetes', 'etcd', 'kwok', 'helm', 'valkey'];

async function binaries(groups: readonly string[]): Promise<void> {
  for (const group of groups.length === 0 ? DEFAULT_GROUPS : groups) {
    const recipe = RECIPES[group];
    if (recipe === undefined) throw new Error(`no group '${group}'; one of: ${Object.keys(RECIPES).join(' ')}`);
    const paths = await ensurePrograms(recipe.programs as Program[]);
    for (const path of Object.values(paths)) process.stdout.write(`${path}\n`);
  }
}

const [verb, ...rest] = process.argv.slice(2);
if (verb === 'binaries') await binaries(rest);
else {
  process.stderr.write('usage: node test/k8s/main.ts binaries [GROUP...]\n');
  process.exitCode = 2;
}
