/** Body of the worker threads of lifetime.test.ts. */

import { parentPort, workerData } from 'node:worker_threads';

import { LittleModel } from './model.ts';
import { makeRuntime } from './support.ts';

const model = await LittleModel.create(makeRuntime({ threads: 2 }), 'f32');
if (workerData === 'finish') {
  const { logits } = await model.forward([{ tokens: [3, 1, 4, 1, 5], slot: 0, pages: [0] }]);
  parentPort?.postMessage(logits);
} else {
  parentPort?.postMessage('started');
  // Until the worker is terminated from outside.
  for (;;)
    await model.forward([{ tokens: Array.from({ length: 300 }, (_, i) => i % 70), slot: 0, pages: [0, 1, 2, 3, 4] }]);
}
