import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, statfsSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { loadNative } from '@guildhall/native';
import { Checkpoint, loadModelConfig } from '@guildhall/model/weights';
import { Tokenizer } from '@guildhall/model/tokenizer';
import { ModelStore } from '../hub/model-store.ts';
import { canListen } from '../stack/ports.ts';
import { ROOT } from '../stack/state-dir.ts';

export interface Finding {
  name: string;
  state: 'ok' | 'warn' | 'fail';
  /** What was seen. */
  found: string;
  /** What to do about it; empty when ok. */
  fix: string;
}

export type Check = (context: DoctorContext) => Promise<Finding> | Finding;

export interface DoctorContext {
  model: string;
}

const ok = (name: string, found: string): Finding => ({ name, state: 'ok', found, fix: '' });
const warn = (name: string, found: string, fix: string): Finding => ({ name, state: 'warn', found, fix });
const bad = (name: string, found: string, fix: string): Finding => ({ name, state: 'fail', found, fix });

function gibibytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function nodeVersion(): Finding {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= 24) return ok('node', process.version);
  return bad('node', process.version, 'run commands through npm (`npm run up`): they use Node 24 from node_modules');
}

function cpu(): Finding {
  const { isa, bf16Kernels, cpuFeatures } = new (loadNative().Runtime)({ threads: 1, isa: 'auto', bf16Kernels: 'auto' })
    .info;
  const found = `${availableParallelism()} cores, kernels ${isa} (${bf16Kernels}); ${cpuFeatures.join(' ')}`;
  if (isa !== 'scalar') return ok('cpu', found);
  return warn('cpu', found, 'this CPU has neither AVX2 nor AVX-512: the scalar kernels work but are slow');
}

function nativeAddon(): Finding {
  try {
    loadNative();
    return ok('native addon', 'loads');
  } catch (error) {
    return bad('native addon', (error as Error).message, 'run `npm run build`; its log is .guildhall/native-build.log');
  }
}

function memory(): Finding {
  const found = `${gibibytes(freemem())} free of ${gibibytes(totalmem())}`;
  return freemem() > 2 ** 30
    ? ok('memory', found)
    : warn('memory', found, 'close other programs: less than 1 GiB is free');
}

function disk(): Finding {
  const { bavail, bsize } = statfsSync(ROOT);
  const free = bavail * bsize;
  return free > 2 ** 30
    ? ok('disk', `${gibibytes(free)} free`)
    : warn('disk', `${gibibytes(free)} free`, 'free at least 1 GiB');
}

function redis(): Finding {
  try {
    const text = execFileSync('redis-server', ['--version'], { encoding: 'utf8' });
    const version = /v=(\d+)\.(\d+)\.\d+/.exec(text);
    if (version !== null && Number(version[1]) >= 7) return ok('redis', version[0].slice(2));
    return bad('redis', text.trim(), 'install redis-server 7 or newer (Debian 12: apt-get install redis-server)');
  } catch {
    return bad('redis', 'redis-server was not found', 'apt-get install -y --no-install-recommends redis-server');
  }
}

function toolchain(): Finding {
  const missing = ['g++', 'cmake', 'ninja'].filter((program) => {
    try {
      execFileSync(program, ['--version'], { stdio: 'ignore' });
      return false;
    } catch {
      return true;
    }
  });
  if (missing.length === 0) return ok('toolchain', 'g++, cmake and ninja are here');
  return bad(
    'toolchain',
    `missing: ${missing.join(', ')}`,
    'apt-get install -y --no-install-recommends g++ cmake ninja-build',
  );
}

async function port(): Promise<Finding> {
  if (await canListen('127.0.0.1', 8000)) return ok('port 8000', 'free');
  return warn('port 8000', 'taken', '`up` takes the next free port; --listen chooses one');
}

function parentDeath(): Finding {
  if (existsSync('/usr/bin/setpriv') || existsSync('/bin/setpriv')) return ok('setpriv', 'present');
  return warn('setpriv', 'missing', 'install util-linux, so that redis-server ends when `up` is killed');
}

function openFiles(): Finding {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '0';
  return Number(limit) >= 1024 ? ok('open files', limit) : warn('open files', limit, 'raise it: ulimit -n 4096');
}

function model({ model: named }: DoctorContext): Finding {
  try {
    const { dir } = new ModelStore(process.env).find(named);
    const config = loadModelConfig(dir);
    Checkpoint.open(dir);
    Tokenizer.load(dir);
    const files = readdirSync(dir).filter((name) => name.endsWith('.safetensors'));
    const bytes = files.reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
    const found = `${config.modelType}, ${config.numLayers} layers of ${config.moe.numExperts} experts, ${gibibytes(bytes)}`;
    // Weights are packed into memory beside the mapped file, and once more for each replica.
    if (bytes * 1.5 < totalmem()) return ok('model', found);
    return warn('model', found, `it may not fit in ${gibibytes(totalmem())}: spread it over several machines`);
  } catch (error) {
    return bad(
      'model',
      (error as Error).message,
      'give a checkpoint in the Hugging Face layout with --model DIR, or pull one',
    );
  }
}

/** Every check of `guildhall doctor`, in the order in which they are printed. */
export const CHECKS: Check[] = [
  nodeVersion,
  toolchain,
  nativeAddon,
  cpu,
  memory,
  disk,
  openFiles,
  redis,
  parentDeath,
  port,
  model,
];
