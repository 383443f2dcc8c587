export { choiceGrammar, type ConstraintText, type GrammarText, grammarText } from './constraint-grammar.ts';
