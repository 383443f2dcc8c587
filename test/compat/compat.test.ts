import { after, before, test } from 'node:test';
import { aiSdk } from './ai-sdk.ts';
import { anthropicMessages } from './anthropic-messages.ts';
import { Conformance } from './conformance.ts';
import { extras } from './extras.ts';
import { openaiChat } from './openai-chat.ts';
import { openaiFiles } from './openai-files.ts';
import { openaiResponses } from './openai-responses.ts';
import { pythonClients, skippedClients } from './python.ts';
import { startWorld, type World } from './world.ts';

let world: World;
before(async () => {
  world = await startWorld();
});
after(async () => world?.stop());

const suite = new Conformance(() => world);
openaiChat(suite);
openaiResponses(suite);
openaiFiles(suite);
extras(suite);
anthropicMessages(suite);
aiSdk(suite);
pythonClients(suite, () => world);

test('the table in the documents is what has just run', () => {
  suite.compare(skippedClients());
});
