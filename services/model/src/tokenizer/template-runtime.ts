import { fail } from '@guildhall/common';
import { Environment, Interpreter, Template } from '@huggingface/jinja';

const STRFTIME = new Template('{{ strftime_now(format) }}');

/** An environment with the globals that chat templates may use, as transformers defines them. */
export function templateEnvironment(): Environment {
  const environment = new Environment();
  const globals: Record<string, unknown> = {
    false: false,
    true: true,
    none: null,
    False: false,
    True: true,
    None: null,
    range: numbers,
    strftime_now: (format: string) => STRFTIME.render({ format }),
    raise_exception: (message: unknown) => {
      throw fail('invalid_value', String(message), { field: 'messages' });
    },
  };
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  return environment;
}

function numbers(startOrStop: number, stop?: number, step = 1): number[] {
  const first = typeof stop === 'number' ? startOrStop : 0;
  const last = typeof stop === 'number' ? stop : startOrStop;
  const count = Math.max(Math.ceil((last - first) / step), 0);
  if (!(count <= 100_000)) throw fail('invalid_value', 'range: too long', { field: 'messages' });
  return Array.from({ length: count }, (_, i) => first + i * step);
}

type RuntimeValue = ReturnType<Environment['set']>;

/** The method of the interpreter that evaluates `value | filter`; the package's types hide it. */
interface FilterHost {
  applyFilter(operand: RuntimeValue, filter: { type: string; value?: unknown }, environment: Environment): RuntimeValue;
}

/**
 * An interpreter whose `string` filter spells true, false and none as Python does. Checkpoints were trained on prompts
 * that Python rendered: a tool call's `True` must not become `true`.
 */
export function pythonInterpreter(environment: Environment): Interpreter {
  const interpreter = new Interpreter(environment);
  const host = interpreter as unknown as FilterHost;
  const applyFilter = host.applyFilter.bind(interpreter);
  const constants = new Environment();
  const spelled = (text: string): RuntimeValue => constants.set(text, text);
  const byValue = new Map<unknown, RuntimeValue>([
    [true, spelled('True')],
    [false, spelled('False')],
    [null, spelled('None')],
  ]);
  host.applyFilter = (operand, filter, scope) => {
    const isString = filter.type === 'Identifier' && filter.value === 'string';
    // The package keeps no value in its null.
    const value = operand.type === 'NullValue' ? null : operand.value;
    return (isString ? byValue.get(value) : undefined) ?? applyFilter(operand, filter, scope);
  };
  return interpreter;
}
