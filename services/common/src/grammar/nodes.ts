import { type CharSet, intersect } from './ebnf.ts';
import type { RegexNode } from './regex.ts';

/** A text, character by character. */
export function textNode(text: string): RegexNode {
  return { kind: 'sequence', items: Array.from(text, (char) => charNode(char.codePointAt(0) as number)) };
}

export function charNode(low: number, high = low): RegexNode {
  return { kind: 'chars', set: [[low, high]] };
}

export function sequence(...items: RegexNode[]): RegexNode {
  return { kind: 'sequence', items };
}

export function choice(...options: RegexNode[]): RegexNode {
  return options.length === 1 ? (options[0] as RegexNode) : { kind: 'choice', options };
}

export function repeat(item: RegexNode, min: number, max: number | null): RegexNode {
  return { kind: 'repeat', item, min, max };
}

export function optionally(item: RegexNode): RegexNode {
  return repeat(item, 0, 1);
}

const DIGIT = charNode(0x30, 0x39);

export function digits(min: number, max = min): RegexNode {
  return repeat(DIGIT, min, max);
}

/** Characters that stand for themselves between the quotes of a JSON string. */
export const PLAIN_CHARS: CharSet = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0xd7ff],
  [0xe000, 0x10ffff],
];
/** The others, each with its shortest spelling. */
const SPELLED: ReadonlyMap<number, string> = new Map(
  [...Array.from({ length: 0x20 }, (_, code) => code), 0x22, 0x5c].map((code) => [
    code,
    JSON.stringify(String.fromCodePoint(code)).slice(1, -1),
  ]),
);

/** A set of characters as they stand in a JSON string, each spelled in one way. */
function jsonChars(set: CharSet): RegexNode {
  const plain = intersect(set, PLAIN_CHARS);
  const options: RegexNode[] = plain.length === 0 ? [] : [{ kind: 'chars', set: plain }];
  for (const [code, text] of SPELLED) {
    if (set.some(([low, high]) => low <= code && code <= high)) options.push(textNode(text));
  }
  return choice(...options);
}

/** An expression over characters as one over their spellings in a JSON string. */
export function inJson(node: RegexNode): RegexNode {
  switch (node.kind) {
    case 'chars':
      return jsonChars(node.set);
    case 'byte':
      return node;
    case 'counted':
      return { ...node, item: inJson(node.item) };
    case 'sequence':
      return { kind: 'sequence', items: node.items.map(inJson) };
    case 'choice':
      return { kind: 'choice', options: node.options.map(inJson) };
    case 'repeat':
      return { ...node, item: inJson(node.item) };
  }
}

/** A JSON string whose characters are what `node` says. */
export function quoted(node: RegexNode): RegexNode {
  return sequence(charNode(0x22), node, charNode(0x22));
}
