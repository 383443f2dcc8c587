import { readFileSync } from 'node:fs';
import { errorMessage, fail, type Logger } from '@guildhall/common';
import { type AutoscalerPolicy, autoscalerPolicySchema } from './policy.ts';

/** Reads a policy. Throws `config_invalid` that names the field. */
export function parsePolicy(text: string, file: string): AutoscalerPolicy {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (err) {
    throw fail('config_invalid', `${file} is no JSON: ${errorMessage(err)}`, {
      field: 'autoscaler_policy',
      cause: err,
    });
  }
  const result = autoscalerPolicySchema.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue?.path.join('.') ?? '';
  throw fail('config_invalid', `${file}: ${path === '' ? '' : `${path}: `}${issue?.message ?? 'not a policy'}`, {
    field: 'autoscaler_policy',
  });
}

/** Reads a policy from a file. Throws `config_invalid`. */
export function readPolicy(file: string): AutoscalerPolicy {
  try {
    return parsePolicy(readFileSync(file, 'utf8'), file);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === undefined || (err as { code: string }).code === 'config_invalid')
      throw err;
    throw fail('config_invalid', `${file} cannot be read: ${errorMessage(err)}`, {
      field: 'autoscaler_policy',
      cause: err,
    });
  }
}

/**
 * The policy in a file, which is read again for each evaluation: a mounted ConfigMap changes under the process. One that cannot
 * be read leaves the last good one in force.
 */
export class PolicyFile {
  readonly #file: string;
  readonly #logger: Logger;
  #policy: AutoscalerPolicy;
  #problem: string | null = null;

  /** Throws `config_invalid` where the file is not good from the beginning. */
  constructor(file: string, logger: Logger) {
    this.#file = file;
    this.#logger = logger;
    this.#policy = readPolicy(file);
  }

  /** The policy in force. */
  get(): AutoscalerPolicy {
    try {
      this.#policy = readPolicy(this.#file);
      if (this.#problem !== null) this.#logger.info({ event: 'policy_read' }, 'the autoscaler policy is good again');
      this.#problem = null;
    } catch (err) {
      const problem = errorMessage(err);
      if (problem !== this.#problem)
        this.#logger.error(
          { event: 'policy_refused', reason: problem },
          'the autoscaler policy is not taken; the last one stays',
        );
      this.#problem = problem;
    }
    return this.#policy;
  }

  /** Why the file is not what is in force; null when it is. */
  get problem(): string | null {
    return this.#problem;
  }
}
