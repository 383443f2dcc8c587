import type { ToolInput } from './tool-table.ts';

/** Which calls an answer may have. */
export interface CallRules {
  /** Tools that may be called: those that the request allows, of those that the model is shown. */
  tools: readonly ToolInput[];
  /** `auto`: the model decides; `required`: the answer is one or more calls. */
  mode: 'auto' | 'required';
  /** More than one call may be made. */
  parallel: boolean;
}

/** A `tool_choice` that has passed its schema. */
export type ToolChoice =
  | 'none'
  | 'auto'
  | 'required'
  | { type: 'function'; function: { name: string } }
  | { type: 'allowed_tools'; allowed_tools: { mode: 'auto' | 'required'; tools: { function: { name: string } }[] } };

/** What of a request decides which calls its answer may have. */
export interface ToolFields {
  tools?: readonly ToolInput[] | null | undefined;
  tool_choice?: ToolChoice | null | undefined;
  parallel_tool_calls?: boolean | null | undefined;
}

/** The rules that a request sets, or null where its answer may have no calls. */
export function callRules({ tools, tool_choice: choice, parallel_tool_calls: parallel }: ToolFields): CallRules | null {
  const all = tools ?? [];
  if (all.length === 0 || choice === 'none') return null;
  const rules = { tools: all, mode: 'auto' as const, parallel: parallel ?? true };
  if (choice === null || choice === undefined || choice === 'auto') return rules;
  if (choice === 'required') return { ...rules, mode: 'required' };
  if (choice.type === 'function') {
    // A named function is called once.
    return {
      tools: all.filter((tool) => tool.function.name === choice.function.name),
      mode: 'required',
      parallel: false,
    };
  }
  const names = new Set(namesAllowed(choice));
  return { ...rules, tools: all.filter((tool) => names.has(tool.function.name)), mode: choice.allowed_tools.mode };
}

/** Names of the functions that a choice speaks of. */
export function namesAllowed(choice: ToolChoice): string[] {
  if (typeof choice === 'string') return [];
  if (choice.type === 'function') return [choice.function.name];
  return choice.allowed_tools.tools.map((tool) => tool.function.name);
}
