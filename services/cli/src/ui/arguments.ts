import { fail } from '@guildhall/common';

/** Reads the value of an option. Throws `config_invalid` unless it is a whole number of 1 or more. */
export function positiveInteger(value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw fail('config_invalid', `'${value}' is not a positive whole number`);
  return number;
}
