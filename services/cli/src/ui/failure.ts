import { ERRORS, isGuildhallError } from '@guildhall/common';

/** One error for a person (what happened, what to do) or, with `--json`, for a program. */
export function printFailure(error: unknown, json: boolean): void {
  const code = isGuildhallError(error) ? error.code : 'internal';
  const message = error instanceof Error ? error.message : String(error);
  if (json) {
    process.stderr.write(`${JSON.stringify({ error: { code, message } })}\n`);
    return;
  }
  process.stderr.write(`guildhall: ${message}\n`);
  if (isGuildhallError(error)) process.stderr.write(`  ${ERRORS[code as keyof typeof ERRORS].hint}\n`);
  else if (error instanceof Error && process.env['GUILDHALL_DEBUG']) process.stderr.write(`${error.stack ?? ''}\n`);
}
