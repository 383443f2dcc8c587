export { choiceGrammar, type ConstraintText, type GrammarText, grammarText } from './constraint-grammar.ts';
export { BEGIN_BYTE, IMPOSSIBLE_BYTES, lengthEvent, type StringLengths } from './string-lengths.ts';
