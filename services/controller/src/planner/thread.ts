import { parentPort } from 'node:worker_threads';
import { errorMessage } from '@guildhall/common';
import { planPlacement } from '../placement/plan.ts';
import { inputOf, type PlanAnswer, type PlanMessage } from './message.ts';

/** A thread that plans what it is sent, one after the other. */
function answer(message: PlanMessage): PlanAnswer {
  try {
    return { result: planPlacement(inputOf(message)) };
  } catch (err) {
    return { error: errorMessage(err) };
  }
}

parentPort?.on('message', (message: PlanMessage) => parentPort?.postMessage(answer(message)));
