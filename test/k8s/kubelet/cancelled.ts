import { isGuildhallError } from '@guildhall/common';

/** Whether an error only says that a wait was given up. */
export function isCancelled(error: unknown): boolean {
  return isGuildhallError(error) && error.code === 'cancelled';
}
