import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { fail } from '@guildhall/common';
import { listModels, streamChat, type ChatMessage, type ChatUsage } from '../chat-client.ts';
import { StateDir } from '../stack/state-dir.ts';

interface ChatFlags {
  url: string | null;
  apiKey: string | null;
  model: string | null;
  system: string | null;
  message: string | null;
  thinking: boolean;
  maxTokens: string | null;
  temperature: string | null;
  stateDir: string | null;
  json: boolean;
}

interface Conversation {
  url: string;
  model: string;
  messages: ChatMessage[];
  flags: ChatFlags;
}

interface Answer {
  reasoning: string;
  content: string;
  usage: ChatUsage | null;
}

/** `guildhall chat`: a conversation in the terminal, or one answer with `--message` or piped lines. */
export function chatCommand(): Command {
  return new Command('chat')
    .description('chat with a served model; /reset forgets the conversation, /exit or Ctrl-D ends it')
    .option('--url <url>', "gateway (default: this folder's running stack, else http://127.0.0.1:8000)")
    .option('--api-key <key>', 'API key', process.env['GUILDHALL_API_KEY'])
    .option('--model <name>', 'served model name (default: the first one)')
    .option('--system <text>', 'system prompt')
    .option('-m, --message <text>', 'ask this once and exit')
    .option('--no-thinking', 'answer without a reasoning block')
    .option('--max-tokens <n>', 'longest answer')
    .option('--temperature <t>', 'sampling temperature')
    .option('--state-dir <dir>', 'where run.json is (default: .guildhall)')
    .option('--json', 'print one JSON object per answer', false)
    .action(async (flags: ChatFlags) => {
      const url = flags.url ?? new StateDir(flags.stateDir ?? null).readRun()?.url ?? 'http://127.0.0.1:8000';
      const model = flags.model ?? (await firstModel(url, flags.apiKey ?? null));
      const conversation = { url, model, messages: systemMessages(flags), flags };
      if (flags.message) await answer(conversation, flags.message, null);
      else await converse(conversation);
    });
}

function systemMessages(flags: ChatFlags): ChatMessage[] {
  return flags.system ? [{ role: 'system', content: flags.system }] : [];
}

async function firstModel(url: string, apiKey: string | null): Promise<string> {
  const models = await listModels(url, apiKey).catch((error: unknown) => {
    if (error instanceof TypeError)
      throw fail('no_router', `no gateway answers at ${url}; start one with \`npm run up\` or give --url`);
    throw error;
  });
  const [first] = models;
  if (first === undefined) throw fail('no_router', `${url} serves no model yet`);
  return first;
}

async function converse(conversation: Conversation): Promise<void> {
  const interactive = process.stdin.isTTY && process.stdout.isTTY;
  const lines = createInterface({
    input: process.stdin,
    output: interactive ? process.stdout : undefined,
    prompt: '› ',
  });
  let running: AbortController | null = null;
  // Ctrl-C stops the answer that is being written; with none, the conversation.
  lines.on('SIGINT', () => (running === null ? lines.close() : running.abort()));
  if (interactive) {
    process.stdout.write(`${conversation.model} at ${conversation.url}; /reset forgets, /exit ends\n`);
    lines.prompt();
  }
  for await (const line of lines) {
    const text = line.trim();
    if (text === '/exit' || text === '/quit') break;
    if (text === '/reset') conversation.messages = systemMessages(conversation.flags);
    else if (text !== '') {
      running = new AbortController();
      await answer(conversation, text, running.signal);
      running = null;
    }
    if (interactive) lines.prompt();
  }
  lines.close();
}

async function answer(conversation: Conversation, text: string, signal: AbortSignal | null): Promise<void> {
  const { flags, messages } = conversation;
  messages.push({ role: 'user', content: text });
  try {
    const result = await printAnswer(conversation, signal);
    if (flags.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    messages.push({ role: 'assistant', content: result.content });
  } catch (error) {
    messages.pop();
    if (signal?.aborted) process.stdout.write(' [stopped]\n');
    else throw error;
  }
}

async function printAnswer({ url, model, messages, flags }: Conversation, signal: AbortSignal | null): Promise<Answer> {
  const [dim, plain] = process.stdout.isTTY ? ['\x1b[2m', '\x1b[0m'] : ['', ''];
  const stream = streamChat({
    url,
    apiKey: flags.apiKey ?? null,
    model,
    messages,
    enableThinking: flags.thinking,
    maxTokens: flags.maxTokens ? Number(flags.maxTokens) : null,
    temperature: flags.temperature ? Number(flags.temperature) : null,
    signal,
  });
  const result: Answer = { reasoning: '', content: '', usage: null };
  for (;;) {
    const next = await stream.next();
    if (next.done) {
      result.usage = next.value;
      break;
    }
    const { reasoning, content } = next.value;
    if (!flags.json) {
      if (reasoning !== '') process.stdout.write(`${dim}${reasoning}${plain}`);
      if (content !== '')
        process.stdout.write(`${result.content === '' && result.reasoning !== '' ? '\n' : ''}${content}`);
    }
    result.reasoning += reasoning;
    result.content += content;
  }
  if (!flags.json) process.stdout.write('\n');
  return result;
}
