import pino, { type DestinationStream, type Logger as PinoLogger } from 'pino';

/** Structured logger; `child({...})` adds fields. */
export type Logger = PinoLogger;

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface LoggerOptions {
  service: string;
  id: string | null;
  level: LogLevel;
  /** Where lines go; stderr by default, since stdout carries the listening line. */
  destination?: DestinationStream;
}

const SECRETS = ['clusterToken', 'apiKey', 'authorization', 'password', 'token', 'redis', 'headers.authorization'];

/**
 * One JSON object a line: level as a word, ISO time, service, id. Fields named like secrets are replaced at the top
 * level and one level down. Levels: error needs a person, warn is handled but unusual, info is a change of state,
 * debug is per request, trace is per step.
 */
export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      level: options.level,
      base: { service: options.service, ...(options.id === null ? {} : { id: options.id }) },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRETS.flatMap((name) => [name, `*.${name}`]), censor: '(hidden)' },
    },
    options.destination ?? pino.destination({ fd: 2, sync: true }),
  );
}
