import { runService } from '@guildhall/common';
import { startGateway } from './start.ts';

await runService('gateway', startGateway);
