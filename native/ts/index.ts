import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

import { unavailable } from './errors.ts';
import type { NativeBinding } from './native.ts';

export * from './errors.ts';
export type * from './native.ts';
export type * from './pools.ts';

/** Where `native/build.sh` puts the addon: beside the sources, or above them when this file was compiled to dist/. */
const ADDON_PATHS = ['../build/guildhall.node', '../../build/guildhall.node', '../../../build/guildhall.node'];

/** Names of the addon's exports, in the order of `NativeBinding`. */
export const EXPORT_NAMES = [
  'CoreLeases',
  'Runtime',
  'mapFile',
  'probe',
  'probeMemory',
  'KvPool',
  'StatePool',
  'StepBuffers',
  'Embedding',
  'GatedDeltaNet',
  'GatedAttention',
  'MoeGate',
  'SharedExpert',
  'ExpertShard',
  'LmHead',
  'ForwardProgram',
  'SamplerState',
  'sample',
  'logprobs',
  'parseReplyHeader',
  'parseForwardHeader',
  'packStatusReply',
  'quantise',
  'crc32c',
] as const satisfies readonly (keyof NativeBinding)[];

/**
 * Loads the addon. Every call in one thread gives the same binding; each worker thread loads its own.
 *
 * @throws NativeError `NATIVE_UNAVAILABLE` when it is not built, is built for another machine, or is of another version
 */
export function loadNative(): NativeBinding {
  const binding = requireAddon();
  const found = Object.keys(binding);
  const stale = found.length !== EXPORT_NAMES.length || EXPORT_NAMES.some((name, i) => found[i] !== name);
  if (stale) {
    throw unavailable('the native addon is of another version than its declarations: run native/build.sh', {
      expected: EXPORT_NAMES,
      found,
    });
  }
  return binding;
}

function requireAddon(): NativeBinding {
  const require = createRequire(import.meta.url);
  let missing: unknown = null;
  for (const path of ADDON_PATHS) {
    const file = fileURLToPath(new URL(path, import.meta.url));
    try {
      return require(file) as NativeBinding;
    } catch (cause) {
      if (!isNotFound(cause)) {
        throw unavailable(`the native addon ${file} cannot be loaded; rebuild it with native/build.sh --clean`, cause);
      }
      missing ??= cause;
    }
  }
  throw unavailable('the native addon is not built: run native/build.sh', missing);
}

function isNotFound(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND';
}
