/**
 * What follows white space, for the engine to look ahead: with it most tokens that begin with a space are left out when a
 * grammar is compiled, instead of one after the other for each mask.
 */
const BEFORE_VALUE = '(=[\\]},"\\[{\\-0-9tfn])';
const AFTER_VALUE = '(=[,\\]}])';

/**
 * Rules for what has no schema. White space is bounded and numbers have a bounded length, so that an answer cannot go on
 * for ever without getting anywhere, and so that numbers are ones which a double holds. Escapes name whole characters. The
 * engine takes a character beyond ASCII for what it is only in a class that excludes others.
 */
export const JSON_RULES: Readonly<Record<string, string>> = {
  ws: `"" | " " | "\\n" ws_indent ${BEFORE_VALUE}`,
  ws_indent: `[ \\t]{0,24} ${BEFORE_VALUE}`,
  gap: `"" | " " | "\\n" gap_indent ${AFTER_VALUE}`,
  gap_indent: `[ \\t]{0,24} ${AFTER_VALUE}`,
  colon: '":" space',
  space: `"" | " " ${BEFORE_VALUE}`,
  comma: '"," ws',
  hex: '[0-9A-Fa-f]',
  escape: '["\\\\/bfnrt] | "u" unicode',
  unicode: '[0-9A-CE-Fa-ce-f] hex hex hex | [Dd] surrogate',
  surrogate: '[0-7] hex hex | [89ABab] hex hex "\\\\u" [Dd] [C-Fc-f] hex hex',
  string: '"\\"" string_rest',
  string_rest: '"\\"" | [^"\\\\\\x00-\\x1f] string_rest | "\\\\" escape string_rest',
  integer: '"-"? natural',
  natural: '"0" | [1-9] [0-9]{0,14}',
  number: 'integer fraction? exponent?',
  fraction: '"." [0-9]{1,15}',
  exponent: '[eE] [+\\-]? [0-9]{1,2}',
  boolean: '"true" | "false"',
  null: '"null"',
  value: 'object | array | string | number | boolean | null',
  array: '"[" ws (value gap (comma value gap)*)? "]"',
  object: '"{" ws (member gap (comma member gap)*)? "}"',
  member: 'string colon value',
};
