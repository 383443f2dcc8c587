import assert from 'node:assert/strict';
import { isGuildhallError, type ErrorCode } from '@guildhall/common';

/** Asserts that `run` throws a GuildhallError with this code whose message contains every one of `parts`. */
export function assertFails(run: () => unknown, code: ErrorCode, ...parts: string[]): void {
  assert.throws(run, (err: unknown) => {
    assert.ok(isGuildhallError(err), `expected a GuildhallError, found ${String(err)}`);
    assert.equal(err.code, code, err.message);
    for (const part of parts) assert.ok(err.message.includes(part), `"${err.message}" should contain "${part}"`);
    return true;
  });
}
