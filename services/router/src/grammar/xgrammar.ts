import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { compileFunction } from 'node:vm';
import { fail } from '@guildhall/common';
import type * as XGrammarTypes from '@mlc-ai/web-xgrammar';
import { withLimits } from './wasm-limits.ts';

export type XGrammar = typeof XGrammarTypes;
export type Compiler = XGrammarTypes.GrammarCompiler;
export type CompiledGrammar = XGrammarTypes.CompiledGrammar;
export type TokenizerInfo = XGrammarTypes.TokenizerInfo;
export type Matcher = XGrammarTypes.GrammarMatcher;

export interface LoadedXGrammar {
  api: XGrammar;
  /** Bytes of its linear memory, which never shrinks. */
  heapBytes: () => number;
  /** What it said before it gave up, or null. */
  lastFailure: () => string | null;
}

/** More than the stack of any thread that it runs on, so that the thread's ends first. */
const STACK_BYTES = 32 << 20;

/** What is used of WebAssembly, which the types of Node do not have. */
interface WasmInstance {
  exports: Record<string, unknown>;
}
interface WasmNamespace {
  instantiate(bytes: Uint8Array, imports: unknown): Promise<{ instance: WasmInstance }>;
  Memory: new (...args: never[]) => { buffer: ArrayBuffer };
  RuntimeError: unknown;
}
const wasm = (globalThis as unknown as { WebAssembly: WasmNamespace }).WebAssembly;

/**
 * Loads an instance of XGrammar whose memory is bounded. Its bundle is CommonJS that its package calls a module, so that
 * neither `import` nor `require` can load it: it is compiled here as the function that it is. An instance that failed once
 * is of no more use: it gives up by aborting.
 */
export function loadXGrammar(memoryBytes: number): LoadedXGrammar {
  const require = createRequire(import.meta.url);
  const path = require.resolve('@mlc-ai/web-xgrammar');
  let failure: string | null = null;
  let memory: { buffer: ArrayBuffer } | null = null;
  const quiet = {
    ...console,
    log: () => undefined,
    warn: () => undefined,
    error: (text: unknown) => (failure = failureText(String(text)) ?? failure),
  };
  const limited = {
    RuntimeError: wasm.RuntimeError,
    instantiate: async (bytes: Uint8Array, imports: unknown) => {
      const limits = { stackBytes: STACK_BYTES, memoryBytes };
      const loaded = await wasm.instantiate(withLimits(new Uint8Array(bytes), limits), imports);
      memory = memoryOf(loaded.instance);
      return loaded;
    },
  };
  const exports = {} as XGrammar;
  // Without `process` it takes no notice of Node: it would import modules, which a function of this kind cannot.
  const names = ['exports', 'module', 'require', '__filename', '__dirname', 'console', 'WebAssembly', 'process'];
  const bundle = compileFunction(readFileSync(path, 'utf8'), names, { filename: path }) as (...args: unknown[]) => void;
  bundle.call(exports, exports, { exports }, require, path, dirname(path), quiet, limited);
  return { api: exports, heapBytes: () => memory?.buffer.byteLength ?? 0, lastFailure: () => failure };
}

function memoryOf(instance: WasmInstance): { buffer: ArrayBuffer } {
  const memory = Object.values(instance.exports).find((value) => value instanceof wasm.Memory);
  if (memory === undefined) throw fail('internal', 'the grammar engine exports no memory');
  return memory as { buffer: ArrayBuffer };
}

/** The message of a fatal log line, without the place in its source. */
function failureText(line: string): string | null {
  const [, text] = /^\[FATAL\] \S+:\d+: ([^]*)/.exec(line) ?? [];
  return text?.trim() ?? null;
}
