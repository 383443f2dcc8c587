import { existsSync, readFileSync } from 'node:fs';

/** The profile that container engines apply where none is given, as Debian ships it: Kubernetes' RuntimeDefault. */
export const ENGINE_PROFILE = '/usr/share/containers/seccomp.json';

interface Rule {
  names?: string[];
  name?: string;
  action: string;
  errnoRet?: number;
  args?: { index: number; value: number; valueTwo?: number; op: string }[];
  includes?: { caps?: string[]; arches?: string[] };
  excludes?: { caps?: string[]; arches?: string[] };
}

interface Profile {
  defaultAction: string;
  defaultErrnoRet?: number;
  archMap: { architecture: string; subArchitectures: string[] }[];
  syscalls: Rule[];
}

/** Architecture names of profiles, by Node's. */
const ARCHITECTURES: Readonly<Record<string, { rule: string; map: string }>> = {
  x64: { rule: 'amd64', map: 'SCMP_ARCH_X86_64' },
  arm64: { rule: 'arm64', map: 'SCMP_ARCH_AARCH64' },
};

/** What keeps the engines' profile from being used, or null. */
export function seccompProblem(): string | null {
  if (existsSync(ENGINE_PROFILE)) return null;
  return `${ENGINE_PROFILE} is missing; apt-get install golang-github-containers-common`;
}

/**
 * The engines' profile as the runtime specification wants it, for a process without any capability: rules that ask for
 * one fall away, those against it stay.
 */
export function engineSeccomp(): object {
  const profile = JSON.parse(readFileSync(ENGINE_PROFILE, 'utf8')) as Profile;
  const here = ARCHITECTURES[process.arch];
  if (here === undefined) throw new Error(`no seccomp architecture for ${process.arch}`);
  const applies = ({ includes, excludes }: Rule): boolean =>
    (includes?.caps ?? []).length === 0 &&
    (includes?.arches === undefined || includes.arches.includes(here.rule)) &&
    !(excludes?.arches ?? []).includes(here.rule);
  const syscalls = profile.syscalls.filter(applies).map(({ names, name, action, errnoRet, args }) => ({
    names: names ?? (name === undefined ? [] : [name]),
    action,
    ...(errnoRet === undefined ? {} : { errnoRet }),
    ...(args === undefined || args.length === 0 ? {} : { args }),
  }));
  const map = profile.archMap.find(({ architecture }) => architecture === here.map);
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: [here.map, ...(map?.subArchitectures ?? [])],
    syscalls,
  };
}
