import { randomBytes } from 'node:crypto';
import { writeSync } from 'node:fs';
import { systemClock } from './clock.ts';
import { errorMessage, fail, isGuildhallError, toGuildhallError } from './errors.ts';
import { createLogger, type Logger, type LogLevel } from './logger.ts';

/** Total time that shutdown hooks may take, unless one of them asks for more. */
export const SHUTDOWN_LIMIT_MS = 10_000;

/** What a service's start-up gets. */
export interface ServiceContext {
  /** Arguments after the program's name. */
  argv: string[];
  env: Record<string, string | undefined>;
  logger: Logger;
  /** Aborts when shutdown begins. */
  signal: AbortSignal;
  /** Adds a hook; hooks run one after the other, the last one first. `limitMs` is for all of them together. */
  onShutdown: (hook: () => void | Promise<void>, limitMs?: number) => void;
  /** Ends the process after the hooks with exit code 1 and the reason on stderr. */
  fatal: (err: unknown) => void;
}

/** What a started service tells. */
export interface ServiceHandle {
  /** host:port that it serves on, or null. */
  address: string | null;
  /** host:port of its admin server, or null. */
  admin: string | null;
  /** Further fields of the listening line. */
  extra?: Record<string, unknown>;
}

/** A number that changes with every start of a process, below 2^63 and never 0. */
export function newIncarnation(): bigint {
  return (randomBytes(8).readBigUInt64BE() >> 1n) | 1n;
}

/** The configured id, or one that is unlikely to be taken. */
export function processId(kind: string, id: string | null): string {
  return id ?? `${kind}-${randomBytes(4).toString('hex')}`;
}

const LEVELS: ReadonlySet<string> = new Set(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']);
const EXIT_OF_SIGNAL: Record<string, number> = { SIGINT: 130, SIGTERM: 143 };

function peek(argv: readonly string[], env: Record<string, string | undefined>, name: string): string | null {
  const flag = `--${name}`;
  const inline = argv.findLast((arg) => arg.startsWith(`${flag}=`));
  if (inline !== undefined) return inline.slice(flag.length + 1);
  const at = argv.lastIndexOf(flag);
  const next = argv[at + 1];
  if (at >= 0) return next === undefined || next.startsWith('--') ? 'true' : next;
  return env[`GUILDHALL_${name.replaceAll('-', '_').toUpperCase()}`] ?? null;
}

class Lifecycle {
  readonly #hooks: (() => void | Promise<void>)[] = [];
  readonly #abort = new AbortController();
  readonly #logger: Logger;
  #limitMs = SHUTDOWN_LIMIT_MS;
  #exitCode: number | null = null;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  addHook(hook: () => void | Promise<void>, limitMs = SHUTDOWN_LIMIT_MS): void {
    this.#hooks.push(hook);
    this.#limitMs = Math.max(this.#limitMs, limitMs);
  }

  /** Runs the hooks once, then exits. Further calls do nothing: a shutdown is under way. */
  shutDown(reason: string, exitCode: number): void {
    if (this.#exitCode !== null) return;
    this.#exitCode = exitCode;
    this.#logger.info({ reason }, 'shutting down');
    this.#abort.abort(fail('cancelled', reason));
    const limitMs = this.#limitMs;
    const limit = systemClock.sleep(limitMs).then(() => {
      this.#logger.error({ limitMs }, 'shutdown took too long');
      process.exit(exitCode === 0 ? 1 : exitCode);
    });
    const run = this.#runHooks().then(() => process.exit(exitCode));
    void Promise.race([limit, run]);
  }

  fatal(err: unknown): void {
    const known = toGuildhallError(err);
    const message = isGuildhallError(err) ? err.message : errorMessage(err);
    writeLine(2, { event: 'fatal', code: known.code, field: known.field, message });
    if (!isGuildhallError(err)) this.#logger.error({ err }, 'fatal error');
    if (this.#exitCode !== null) process.exit(1);
    this.shutDown(message, 1);
  }

  async #runHooks(): Promise<void> {
    for (let hook = this.#hooks.pop(); hook !== undefined; hook = this.#hooks.pop()) {
      try {
        await hook();
      } catch (err) {
        this.#logger.error({ err }, 'a shutdown hook failed');
      }
    }
  }
}

/** A reader that is gone must not end this process by EPIPE. */
function writeLine(fd: number, value: Record<string, unknown>): void {
  try {
    writeSync(fd, `${JSON.stringify(value)}\n`);
  } catch {
    // Nobody reads: nothing to do about it here.
  }
}

function watchParent(life: Lifecycle): void {
  const gone = (): void => life.shutDown('the parent process is gone', 0);
  process.stdin.on('end', gone).on('close', gone).on('error', gone).resume();
}

function watchSignals(life: Lifecycle): void {
  for (const [name, exitCode] of Object.entries(EXIT_OF_SIGNAL)) {
    let seen = 0;
    process.on(name, () => {
      seen += 1;
      if (seen > 1) process.exit(exitCode);
      life.shutDown(name, 0);
    });
  }
  process.on('uncaughtException', (err) => life.fatal(err));
  process.on('unhandledRejection', (err) => life.fatal(err));
  // stdout and stderr may be pipes whose reader died; the signals and the parent pipe decide when to stop.
  process.stdout.on('error', () => undefined);
  process.stderr.on('error', () => undefined);
}

/**
 * Runs a service's process: signals (the first is graceful with exit code 0, the second immediate), the end of the
 * parent with --parent-pipe, shutdown hooks within 10 s unless one asks for more, and fatal errors as one JSON line on stderr with exit
 * code 1. When `start` returns, writes `{"event":"listening",...}` to stdout, and to --ready-fd if given.
 */
export async function runService(name: string, start: (ctx: ServiceContext) => Promise<ServiceHandle>): Promise<void> {
  const argv = process.argv.slice(2);
  const env = process.env;
  const level = (peek(argv, env, 'log-level') ?? 'info') as LogLevel;
  const logger = createLogger({ service: name, id: peek(argv, env, 'id'), level: LEVELS.has(level) ? level : 'info' });
  const life = new Lifecycle(logger);
  watchSignals(life);
  const pipe = peek(argv, env, 'parent-pipe');
  if (pipe === 'true' || pipe === '1') watchParent(life);
  try {
    const handle = await start({
      argv,
      env,
      logger,
      signal: life.signal,
      onShutdown: (hook, limitMs) => life.addHook(hook, limitMs),
      fatal: (err) => life.fatal(err),
    });
    if (life.signal.aborted) return;
    const line = {
      event: 'listening',
      address: handle.address,
      admin: handle.admin,
      pid: process.pid,
      ...handle.extra,
    };
    writeLine(1, line);
    const fd = Number(peek(argv, env, 'ready-fd'));
    if (Number.isInteger(fd) && fd > 0) writeLine(fd, line);
  } catch (err) {
    if (!life.signal.aborted) life.fatal(err);
  }
}
