/** One request of the load: everything that decides its answer. */
export interface LoadRequest {
  prompt: string;
  maxTokens: number;
  temperature: number;
  topP: number;
  seed: number;
}

const OPENINGS = [
  'Hello! Who are you?',
  'Tell me a short story about a river.',
  'What is the capital of France, and why?',
  'List three animals and say what they eat.',
  'Explain how bread is made.',
  'Write a poem about the sea.',
  'How many legs do two dogs and a bird have?',
  'What should I pack for a week in the mountains?',
];

const FILLER =
  'The road went over the hill and down to the village, where people were at work in the fields and children played beside the water. ';

/** Deterministic numbers in [0, 1) of a seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `count` different requests of a seed: prompts of a sentence to a page, answers of 24 to 96 tokens, all sampled. */
export function makeRequests(count: number, seed: number): LoadRequest[] {
  const random = randomOf(seed);
  const whole = (from: number, to: number): number => from + Math.floor(random() * (to - from + 1));
  return Array.from({ length: count }, (_, index) => {
    const opening = OPENINGS[index % OPENINGS.length] ?? '';
    const filler = FILLER.repeat(whole(0, 3) === 3 ? whole(8, 16) : whole(0, 2));
    return {
      prompt: `${index}. ${filler}${opening}`,
      maxTokens: whole(24, 96),
      temperature: whole(6, 11) / 10,
      topP: whole(8, 10) / 10,
      seed: whole(1, 1_000_000),
    };
  });
}
