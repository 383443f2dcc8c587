import { fail, type GuildhallError } from '@guildhall/common';
import { describe, isRecord } from '../json-file.ts';

/** Inclusive bounds. */
export interface Range {
  min: number;
  max: number;
}

/**
 * Typed access to the fields of one JSON object. `null` counts as absent, as in the published files. Every error is
 * `checkpoint_invalid` and names file, field, what was found and what was expected.
 */
export class FieldReader {
  readonly file: string;
  /** Dotted path of this object in the file, '' at the root. */
  readonly path: string;
  readonly record: Record<string, unknown>;

  constructor(file: string, path: string, record: Record<string, unknown>) {
    this.file = file;
    this.path = path;
    this.record = record;
  }

  /** Dotted path of a field. */
  pathOf(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }

  /** The value, or undefined when it is absent or null. */
  raw(name: string): unknown {
    if (!Object.hasOwn(this.record, name)) return undefined;
    return this.record[name] ?? undefined;
  }

  has(name: string): boolean {
    return this.raw(name) !== undefined;
  }

  /** The error for a field whose value is not what it must be. */
  invalid(name: string, expected: string): GuildhallError {
    const field = this.pathOf(name);
    const found = describe(this.raw(name));
    return fail('checkpoint_invalid', `${this.file}: ${field}: found ${found}, expected ${expected}`, { field });
  }

  optionalInt(name: string, range: Range): number | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < range.min || value > range.max) {
      throw this.invalid(name, `an integer from ${range.min} to ${range.max}`);
    }
    return value;
  }

  int(name: string, range: Range): number {
    const value = this.optionalInt(name, range);
    if (value === null) throw this.invalid(name, `an integer from ${range.min} to ${range.max}`);
    return value;
  }

  optionalNumber(name: string, range: Range): number | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (typeof value !== 'number' || !Number.isFinite(value) || value < range.min || value > range.max) {
      throw this.invalid(name, `a number from ${range.min} to ${range.max}`);
    }
    return value;
  }

  number(name: string, range: Range): number {
    const value = this.optionalNumber(name, range);
    if (value === null) throw this.invalid(name, `a number from ${range.min} to ${range.max}`);
    return value;
  }

  optionalBool(name: string): boolean | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (typeof value !== 'boolean') throw this.invalid(name, 'true or false');
    return value;
  }

  optionalString(name: string): string | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (typeof value !== 'string') throw this.invalid(name, 'a string');
    return value;
  }

  optionalArray(name: string): unknown[] | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (!Array.isArray(value)) throw this.invalid(name, 'an array');
    return value;
  }

  /** A token id or a list of them, as `eos_token_id` is written; empty when absent. */
  ids(name: string): number[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    return list.map((id) => {
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > 0x7fffffff) {
        throw this.invalid(name, 'a token id or a list of token ids');
      }
      return id;
    });
  }

  /** A nested object; null when absent. */
  child(name: string): FieldReader | null {
    const value = this.raw(name);
    if (value === undefined) return null;
    if (!isRecord(value)) throw this.invalid(name, 'an object');
    return new FieldReader(this.file, this.pathOf(name), value);
  }
}
