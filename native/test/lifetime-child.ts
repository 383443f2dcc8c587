/** Child process of lifetime.test.ts: makes a model, then ends in the way that its argument says. */

import { LittleModel } from './model.ts';
import { makeRuntime } from './support.ts';

const model = await LittleModel.create(makeRuntime({ threads: 2 }), 'f32');
process.stdout.write('started\n');
const mode = process.argv[2];
if (mode !== 'idle') {
  const pending = model.forward([
    { tokens: Array.from({ length: 300 }, (_, i) => i % 70), slot: 0, pages: [0, 1, 2, 3, 4] },
  ]);
  if (mode === 'exit') process.exit(0);
  // Nothing but the forward keeps the event loop alive.
  void pending.then(() => process.stdout.write('done\n'));
}
