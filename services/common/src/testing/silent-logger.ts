import { createLogger, type Logger } from '../logger.ts';

/** A logger for tests; set GUILDHALL_TEST_LOG to a level to see its lines. */
export function silentLogger(): Logger {
  const level = process.env['GUILDHALL_TEST_LOG'];
  return createLogger({ service: 'test', id: null, level: level === undefined ? 'silent' : (level as 'debug') });
}
