import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import { createGenerator } from 'ts-json-schema-generator';
import type { AnthropicRequests, AnthropicShapes } from './anthropic-shapes.ts';
import type { OpenAIRequests, OpenAIShapes } from './openai-shapes.ts';

type Shape = keyof OpenAIShapes | keyof AnthropicShapes;
type RequestShape = keyof OpenAIRequests | keyof AnthropicRequests;

/** Files of types, and the interface of each that names what is checked. */
const TYPES = { OpenAIShapes: 'openai-shapes.ts', AnthropicShapes: 'anthropic-shapes.ts' };

/** Interfaces of the same files that name what may be asked. */
const REQUESTS: Record<RequestShape, 'OpenAIRequests' | 'AnthropicRequests'> = {
  chatRequest: 'OpenAIRequests',
  completionRequest: 'OpenAIRequests',
  responseRequest: 'OpenAIRequests',
  messageRequest: 'AnthropicRequests',
  betaMessageRequest: 'AnthropicRequests',
};

/** The description that the gateway gives of itself, as the repository has it. */
const OPENAPI = JSON.parse(readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8')) as {
  components: { schemas: Record<string, Definition> };
};

interface Route {
  path: RegExp;
  /** Shape of a JSON answer, by method. */
  whole: Partial<Record<string, Shape>>;
  /** Shape of each event of a stream. */
  event?: Shape;
}

/** What each path answers with. Paths that are not here are those of vLLM and of Guildhall, which no official package declares. */
const ROUTES: Route[] = [
  { path: /^\/v1\/chat\/completions$/, whole: { POST: 'chatCompletion' }, event: 'chatCompletionChunk' },
  { path: /^\/v1\/completions$/, whole: { POST: 'completion' }, event: 'completionChunk' },
  { path: /^\/v1\/models$/, whole: { GET: 'models' } },
  { path: /^\/v1\/models\/.+$/, whole: { GET: 'model' } },
  { path: /^\/v1\/files$/, whole: { POST: 'file', GET: 'files' } },
  { path: /^\/v1\/files\/[^/]+$/, whole: { GET: 'file', DELETE: 'fileDeleted' } },
  { path: /^\/v1\/uploads(\/[^/]+\/(complete|cancel))?$/, whole: { POST: 'upload' } },
  { path: /^\/v1\/uploads\/[^/]+\/parts$/, whole: { POST: 'uploadPart' } },
  { path: /^\/v1\/batches$/, whole: { POST: 'batch', GET: 'batches' } },
  { path: /^\/v1\/batches\/[^/]+(\/cancel)?$/, whole: { GET: 'batch', POST: 'batch' } },
  { path: /^\/v1\/responses\/input_tokens$/, whole: { POST: 'inputTokens' } },
  { path: /^\/v1\/responses\/[^/]+\/input_items$/, whole: { GET: 'inputItems' } },
  {
    path: /^\/v1\/responses(\/[^/]+(\/cancel)?)?$/,
    whole: { GET: 'response', POST: 'response' },
    event: 'responseEvent',
  },
  { path: /^\/v1\/messages\/count_tokens$/, whole: { POST: 'messageTokens' } },
  { path: /^\/v1\/messages$/, whole: { POST: 'message' }, event: 'messageEvent' },
];

/** The data of a stream of server-sent events, without the closing `[DONE]`. */
export function eventData(text: string): string[] {
  return text
    .split('\n\n')
    .flatMap((event) => event.split('\n').filter((line) => line.startsWith('data: ')))
    .map((line) => line.slice(6))
    .filter((data) => data !== '[DONE]');
}

/** Of all errors those that lie deepest: the ones of the branch of a union that nearly fitted. */
function told(errors: ErrorObject[]): string {
  const depth = (error: ErrorObject): number => error.instancePath.split('/').length;
  const deepest = Math.max(...errors.map(depth));
  const texts = errors.filter((error) => depth(error) === deepest);
  return [...new Set(texts.map((error) => `${error.instancePath} ${error.message ?? ''}`))].slice(0, 4).join('; ');
}

/**
 * Holds every answer that passes through `fetch` to the type that the official package declares for it. The types are made from the
 * vendors' API descriptions; the clients themselves check nothing of what they get.
 */
export class Oracle {
  /** How many answers and events of each shape were held to it. */
  readonly counts = new Map<Shape, number>();
  readonly #ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  readonly #validators = new Map<Shape, ValidateFunction>();
  readonly #places = new Map<Shape, string>();
  readonly #requests = {
    OpenAIRequests: definitionsOf('OpenAIRequests', TYPES.OpenAIShapes),
    AnthropicRequests: definitionsOf('AnthropicRequests', TYPES.AnthropicShapes),
  };
  #pending: Promise<void>[] = [];
  #failures: string[] = [];

  constructor() {
    for (const [type, file] of Object.entries(TYPES)) {
      const definitions = definitionsOf(type, file);
      if (type === 'OpenAIShapes') adjust(definitions);
      this.#ajv.addSchema({ $id: type, definitions });
      const { properties } = definitions[type] as { properties: Record<Shape, object> };
      for (const shape of Object.keys(properties))
        this.#places.set(shape as Shape, `${type}#/definitions/${type}/properties/${shape}`);
    }
  }

  /**
   * Throws unless the gateway's description knows every field that a client's type has for a request, be it to refuse it.
   * @param schema its name there.
   */
  knowsFields(request: RequestShape, schema: string): void {
    const known = fieldsOf(OPENAPI.components.schemas[schema] ?? {});
    const definitions = this.#requests[REQUESTS[request]];
    const asked = fieldsOf(definitions[REQUESTS[request]]?.properties?.[request] ?? {}, definitions);
    if (asked.length === 0) throw new Error(`the package has no fields for ${request}`);
    const unknown = asked.filter((field) => !known.includes(field));
    if (unknown.length > 0) throw new Error(`${schema} does not know ${unknown.join(', ')}`);
  }

  /** Errors of a value against a shape; null where it fits. */
  errors(shape: Shape, value: unknown): string | null {
    let validate = this.#validators.get(shape);
    if (validate === undefined) {
      validate = this.#ajv.compile({ $ref: this.#places.get(shape) });
      this.#validators.set(shape, validate);
    }
    this.counts.set(shape, (this.counts.get(shape) ?? 0) + 1);
    return validate(value) ? null : told(validate.errors ?? []);
  }

  /** `fetch`, which keeps a copy of each answer for the check. */
  readonly fetch: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    const url = new URL(input instanceof Request ? input.url : input);
    const method = (init?.method ?? 'GET').toUpperCase();
    const route = ROUTES.find(({ path }) => path.test(url.pathname));
    if (route !== undefined) this.#pending.push(this.#hold(route, method, url.pathname, response.clone()));
    return response;
  };

  async #hold(route: Route, method: string, path: string, response: Response): Promise<void> {
    let text: string;
    try {
      text = await response.text();
    } catch {
      // The client went away, which is a check of its own.
      return;
    }
    const stream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
    const shape = stream ? route.event : response.ok ? route.whole[method] : errorShape(path);
    if (shape === undefined) return;
    for (const data of stream ? eventData(text) : [text]) {
      const errors = this.errors(shape, JSON.parse(data));
      if (errors !== null) this.#failures.push(`${method} ${path} is no ${shape}: ${errors}\n${data.slice(0, 1500)}`);
    }
  }

  /** Resolves when all answers so far are checked; throws when one does not fit. */
  async settle(): Promise<void> {
    await Promise.all(this.#pending);
    const failures = this.#failures;
    [this.#pending, this.#failures] = [[], []];
    if (failures.length > 0) throw new Error(failures.slice(0, 5).join('\n'));
  }
}

interface Definition {
  $ref?: string;
  properties?: Record<string, object>;
  required?: string[];
}

/** Names of a type's fields. */
function fieldsOf(type: Definition, definitions: Record<string, Definition> = {}): string[] {
  if (type.$ref === undefined) return Object.keys(type.properties ?? {});
  const name = decodeURIComponent(type.$ref.slice(type.$ref.lastIndexOf('/') + 1));
  return fieldsOf(definitions[name] ?? {}, definitions);
}

/** JSON schemas of an interface of a file, and of what it names. */
function definitionsOf(type: string, file: string): Record<string, Definition> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  const config = { path, type, skipTypeCheck: true, additionalProperties: true, jsDoc: 'none', topRef: true } as const;
  return (createGenerator({ ...config, expose: 'all' }).createSchema(type).definitions ?? {}) as Record<
    string,
    Definition
  >;
}

/**
 * Definitions whose optional fields are null until there is a value, as OpenAI's API sends them and as its documents show them, though
 * the package declares them as left out.
 */
const NULL_UNTIL_KNOWN = ['Batch', 'Response'];

function adjust(definitions: Record<string, Definition>): void {
  for (const name of NULL_UNTIL_KNOWN) {
    const { properties, required = [] } = definitions[name] ?? {};
    if (properties === undefined) throw new Error(`the package has no type ${name}`);
    for (const [field, type] of Object.entries(properties))
      if (!required.includes(field)) properties[field] = { anyOf: [type, { type: 'null' }] };
  }
  // It is declared as part of a response, and the client itself adds it.
  const response = definitions['Response'];
  if (response?.required !== undefined) response.required = response.required.filter((name) => name !== 'output_text');
}

function errorShape(path: string): Shape {
  return path.startsWith('/v1/messages') ? 'anthropicError' : 'error';
}
