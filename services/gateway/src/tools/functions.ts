import type { ChatRequest } from '../schema/chat.ts';

/** Fields of chat completions that came before `tools` and `tool_choice`. */
type FunctionFields = Pick<ChatRequest, 'functions' | 'function_call'>;

/** Whether a request asks in the form of functions, and is to be answered in it. */
export function asksForFunctions({ functions }: FunctionFields): boolean {
  return (functions ?? []).length > 0;
}

/** The same request with tools. An answer in the form of functions has room for one call. */
export function withTools(body: ChatRequest): ChatRequest {
  if (!asksForFunctions(body)) return body;
  const { functions, function_call: choice, ...rest } = body;
  return {
    ...rest,
    tools: (functions ?? []).map((fn) => ({ type: 'function' as const, function: fn })),
    tool_choice:
      typeof choice === 'object' && choice !== null ? { type: 'function', function: { name: choice.name } } : choice,
    parallel_tool_calls: false,
  };
}
