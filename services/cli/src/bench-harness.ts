import { fail } from '@guildhall/common';
import type * as Bench from '@guildhall/bench';

/**
 * The benches' harness: machine descriptions, reports, pictures. Loaded when it is needed, since it brings a drawing
 * library along; container images leave it out.
 * @throws unsupported where it is not installed.
 */
export async function benchHarness(): Promise<typeof Bench> {
  try {
    return await import('@guildhall/bench');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw fail(
      'unsupported',
      'the bench harness is not installed here; run this command from a checkout of the repository',
    );
  }
}
