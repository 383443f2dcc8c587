import type { Random } from './random.ts';
import { anyText, junk, nested } from './texts.ts';

type Container = Record<string, unknown> | unknown[];

/** Places within a value: each an array or object and a key of it. */
function placesOf(value: unknown): { parent: Container; key: string }[] {
  const places: { parent: Container; key: string }[] = [];
  const walk = (at: unknown): void => {
    if (typeof at !== 'object' || at === null || places.length > 300) return;
    for (const [key, inner] of Object.entries(at)) {
      places.push({ parent: at as Container, key });
      walk(inner);
    }
  };
  walk(value);
  return places;
}

function put(parent: Container, key: string, value: unknown): void {
  // A plain assignment to __proto__ would set no field.
  Object.defineProperty(parent, key, { value, enumerable: true, configurable: true, writable: true });
}

const SMALL = { junk: 6, missing: 3, extra: 3, wrapped: 2, named: 1, null: 2 };
const LARGE = { huge: 1, deep: 1, many: 1 };

function changed(random: Random, value: unknown, how: keyof typeof SMALL | keyof typeof LARGE): unknown {
  const places = placesOf(value);
  if (places.length === 0) return junk(random);
  const { parent, key } = random.pick(places);
  const old = (parent as Record<string, unknown>)[key];
  if (how === 'junk') put(parent, key, junk(random));
  else if (how === 'missing') Reflect.deleteProperty(parent, key);
  else if (how === 'extra') put(parent, Array.isArray(parent) ? String(parent.length) : anyText(random), junk(random));
  else if (how === 'wrapped') put(parent, key, random.chance(0.5) ? [old] : { [key]: old });
  else if (how === 'huge')
    put(parent, key, random.pick(['x', ' ', '🙂', '\u0301', '<']).repeat(random.pick([1e4, 1e5, 4e5])));
  else if (how === 'deep') put(parent, key, nested(random.pick([63, 65, 500]), random.chance(0.5), old));
  else if (how === 'many')
    put(
      parent,
      key,
      Array.from({ length: random.pick([65, 1025, 5000]) }, () => old),
    );
  else if (how === 'named') put(parent, random.pick(['__proto__', 'constructor', 'prototype', '']), old);
  else put(parent, key, null);
  return value;
}

/** A value that differs in one place or a few from a right one. */
export function nearlyRight(random: Random, value: unknown): unknown {
  let near: unknown = value;
  for (let i = random.pick([1, 1, 1, 2, 4]); i > 0; i--) near = changed(random, near, random.weighted(SMALL));
  // One at most: they would multiply.
  return random.chance(0.1) ? changed(random, near, random.weighted(LARGE)) : near;
}
