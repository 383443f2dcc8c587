/**
 * What the container image holds and where: the one place for its paths, entries, user, pruning rules and bounds.
 * `deploy/docker/Dockerfile` copies the layers that `stage.ts` writes.
 */
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. */
export const ROOT = resolve(fileURLToPath(new URL('../..', import.meta.url)));
/** Where everything that this tool makes goes; git ignores it. */
export const BUILD = join(ROOT, 'build', 'image');

/** User and group of every process. */
export const UID = 10_001;
export const USER = 'guildhall';

/** Where the image keeps the application, and Node. */
export const APP = '/app';
export const NODE = '/usr/local/bin/node';
/** Compiled code of the modules, written while the image is made. Node reads it where NODE_COMPILE_CACHE says. */
export const COMPILE_CACHE = `${APP}/.cache/node`;

/** Programs on PATH, and the compiled module that each runs, under `/app/dist`. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  guildhall: 'services/cli/src/main.js',
  'guildhall-drain': 'services/cli/src/drain-hook.js',
  'guildhall-gateway': 'services/gateway/src/main.js',
  'guildhall-router': 'services/router/src/main.js',
  'guildhall-expert': 'services/expert/src/main.js',
  'guildhall-controller': 'services/controller/src/main.js',
  'guildhall-batch': 'services/batch/src/main.js',
};

/** Layers in the order in which they change: a new build of the sources leaves the first ones as they are. */
export const LAYERS = ['base', 'node', 'packages', 'model', 'app'] as const;
export type Layer = (typeof LAYERS)[number];

/** Debian packages of the base: what Node and the addons are linked with, and what names users and protocols. */
export const DEBIAN_PACKAGES = [
  'base-files',
  'ca-certificates',
  'gcc-12-base',
  'libc6',
  'libgcc-s1',
  'libstdc++6',
  'netbase',
];

/** Workspaces whose compiled sources are shipped; tests and benches stay outside. */
export const LEFT_OUT_WORKSPACES: ReadonlySet<string> = new Set(['@guildhall/bench', '@guildhall/test']);

/** npm packages that production dependencies name, but that nothing loads under Node at run time. */
export const LEFT_OUT_PACKAGES: readonly { name: RegExp; why: string }[] = [
  { name: /^@types\//, why: 'types only' },
  { name: /^node-addon-api$/, why: 'headers for the native build' },
  { name: /^bare-/, why: 'stands in for Node modules under the Bare runtime' },
];

/** Files of npm packages that nothing reads at run time. `path` is relative to the package. */
export const LEFT_OUT_FILES: readonly { path: RegExp; in?: RegExp; why: string }[] = [
  { path: /\.(?:map|tsbuildinfo|flow)$/, why: 'for debuggers and compilers' },
  { path: /\.[cm]?tsx?$/, why: 'types and sources of compiled code' },
  { path: /\.(?:c|cc|cpp|h|hpp|gyp|gypi)$|(?:^|\/)(?:CMakeLists\.txt|Makefile)$/, why: 'native sources' },
  { path: /^(?!.*(?:licen[cs]e|notice|copying)).*\.(?:md|markdown)$/i, why: 'documents' },
  {
    path: /^(?:tests?|__tests__|examples?|bench(?:marks?)?|docs?|coverage|\.github)\//,
    why: 'not code of the package',
  },
  {
    path: /(?:^|\/)\.(?:eslintrc|prettierrc|npmignore|editorconfig|travis\.yml|nycrc|taprc)/,
    why: 'settings of tools',
  },
  { path: /^dist-(?:es|types)\//, in: /^@(?:aws-sdk|smithy|aws)\//, why: 'for bundlers; Node loads dist-cjs' },
];

/** MiB of the unpacked image without Node itself, at most; a test holds it there. */
export const SIZE_LIMIT_MIB = 120;

/** Files of the tiny checkpoint that are not for serving it. */
export const MODEL_LEFT_OUT: readonly string[] = ['train', 'eval'];

/** Platform name of native npm addons, such as `linux-x64-gnu`. */
export const PLATFORM = `linux-${process.arch}-gnu`;
