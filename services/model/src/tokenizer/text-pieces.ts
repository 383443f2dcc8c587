import { isRecord } from '../json-file.ts';

/** Length of a piece that is aimed at, UTF-16 units: a fraction of a second of one core at most. */
export const PIECE_LENGTH = 1 << 16;
/** A text that cannot be cut for so long is refused, UTF-16 units: seconds of one core. */
export const MAX_UNCUT = 1 << 20;

/** How Qwen2 to Qwen3.5 split text before the merges; the tokens of a part are those of the part alone. */
export const SPLITS: ReadonlySet<unknown> = new Set([
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
]);

/**
 * Two characters between which each of these expressions ends a part, whatever stands around them, and which NFC neither joins nor
 * moves: a letter ends a run of letters before white space, punctuation and digits, and nothing goes on after a line break but
 * further white space.
 */
const CUT = /[A-Za-z\u4e00-\u9fff][ \n.,;:0-9，。、]|\n[!-~\u4e00-\u9fff]/;

/** True where cutting a text as `isCut` says changes no token of a tokenizer.json. */
export function canCut(root: Record<string, unknown>): boolean {
  const { normalizer, pre_tokenizer: pre, added_tokens: added = [] } = root;
  if (normalizer !== null && !(isRecord(normalizer) && normalizer['type'] === 'NFC')) return false;
  if (!isRecord(pre) || pre['type'] !== 'Sequence' || !Array.isArray(pre['pretokenizers'])) return false;
  const [split, bytes, ...others] = pre['pretokenizers'] as unknown[];
  return (
    others.length === 0 && isKnownSplit(split) && isPlainBytes(bytes) && Array.isArray(added) && added.every(isWhole)
  );
}

function isKnownSplit(split: unknown): boolean {
  if (!isRecord(split) || split['type'] !== 'Split' || !isRecord(split['pattern'])) return false;
  return split['behavior'] === 'Isolated' && split['invert'] === false && SPLITS.has(split['pattern']['Regex']);
}

function isPlainBytes(step: unknown): boolean {
  return (
    isRecord(step) && step['type'] === 'ByteLevel' && step['add_prefix_space'] === false && step['use_regex'] === false
  );
}

/** No cut falls into the token, and it is found whatever stands around it. */
function isWhole(token: unknown): boolean {
  if (!isRecord(token) || typeof token['content'] !== 'string' || CUT.test(token['content'])) return false;
  return token['lstrip'] !== true && token['rstrip'] !== true && token['single_word'] !== true;
}

/** A text may be cut before the character at `at`. */
export function isCut(text: string, at: number): boolean {
  return at > 0 && CUT.test(text.slice(at - 1, at + 1));
}

/** Where the piece that begins at `from` ends: the last cut within `PIECE_LENGTH`, else the first after it, else the end of the text. */
export function endOfPiece(text: string, from: number): number {
  if (text.length - from <= PIECE_LENGTH) return text.length;
  for (let at = from + PIECE_LENGTH; at > from + PIECE_LENGTH / 2; at -= 1) if (isCut(text, at)) return at;
  const behind = new RegExp(CUT, 'g');
  behind.lastIndex = from + PIECE_LENGTH;
  const next = behind.exec(text);
  return next === null ? text.length : next.index + 1;
}
