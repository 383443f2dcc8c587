/**
 * Preloaded into a router (`node --import`), makes its native code crash on a token: the process kills itself as soon as a
 * step has it among its tokens.
 */
import { type BatchSpec, loadNative } from '@guildhall/native';

const token = Number(process.env['GUILDHALL_TEST_DEADLY_TOKEN']);

if (process.argv[1]?.includes('/router/') === true && Number.isInteger(token)) {
  const native = loadNative();
  const { StepBuffers } = native;
  class DeadlyStepBuffers extends StepBuffers {
    override setBatch(spec: BatchSpec): void {
      if (spec.tokenIds.includes(token)) process.kill(process.pid, 'SIGKILL');
      super.setBatch(spec);
    }
  }
  Object.assign(native, { StepBuffers: DeadlyStepBuffers });
}
