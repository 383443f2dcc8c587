import type { V1LifecycleHandler } from '@kubernetes/client-node';
import type { Clock } from '@guildhall/common';
import { type ActionResult, type ActionTarget, httpAction } from './actions.ts';

/** Carries out a postStart or preStop handler. It is given up after `limitMs`. Never throws. */
export async function lifecycleAction(
  target: ActionTarget,
  handler: V1LifecycleHandler,
  limitMs: number,
  clock: Clock,
): Promise<ActionResult> {
  try {
    if (handler.exec !== undefined) {
      const { code, output } = await target.exec(handler.exec.command ?? [], limitMs);
      return { ok: code === 0, message: output };
    }
    if (handler.httpGet !== undefined) return await httpAction(target, handler.httpGet, limitMs);
    if (handler.sleep !== undefined) await clock.sleep(Math.min(handler.sleep.seconds * 1000, limitMs));
    return { ok: true, message: '' };
  } catch (error) {
    return { ok: false, message: error instanceof Error ? error.message : String(error) };
  }
}
