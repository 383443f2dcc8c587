import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

/** A JSON schema as OpenAPI 3.1 has it. */
export type Schema = Readonly<Record<string, unknown>>;

export interface Parameter {
  in: 'query' | 'path';
  name: string;
  required: boolean;
  schema: Schema;
}

/** One method of one path of the API. */
export interface Operation {
  /** `POST /v1/files`, for messages. */
  name: string;
  method: string;
  /** With `{name}` for each parameter. */
  path: string;
  parameters: readonly Parameter[];
  /** Schema of the JSON body, if it has one. */
  body: Schema | null;
}

interface Document {
  paths: Record<string, Record<string, OperationObject>>;
  components: { schemas: Record<string, Schema> };
}

interface OperationObject {
  parameters?: (Omit<Parameter, 'required'> & { required?: boolean })[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, unknown> }>;
}

const FILE = join(import.meta.dirname, '../../docs/openapi.json');
const ID = 'api.json';

function pointer(...keys: string[]): string {
  return keys.map((key) => encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/');
}

/** What the API's description says of requests, and whether answers are what it says. */
export class ApiDescription {
  readonly operations: readonly Operation[];
  readonly #document: Document;
  readonly #patterns: { operation: Operation; pattern: RegExp }[];
  readonly #ajv = new Ajv2020({ strict: false, validateFormats: false });
  readonly #validators = new Map<string, ValidateFunction>();

  private constructor(document: Document) {
    this.#document = document;
    this.#ajv.addSchema({ $id: ID, ...document });
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => operationOf(path, method, operation)),
    );
    this.#patterns = this.operations.map((operation) => ({ operation, pattern: patternOf(operation.path) }));
  }

  /** docs/openapi.json, which a test of the gateway keeps equal to what it serves. */
  static read(): ApiDescription {
    return new ApiDescription(JSON.parse(readFileSync(FILE, 'utf8')) as Document);
  }

  /** What a schema refers to; itself where it refers to nothing. */
  resolve(schema: Schema): Schema {
    const { $ref: ref } = schema;
    if (typeof ref !== 'string') return schema;
    const found = this.#document.components.schemas[ref.replace('#/components/schemas/', '')];
    if (found === undefined) throw new TypeError(`${ref} is not there`);
    return found;
  }

  /** The operation that a request is for, by its method and path. */
  operationAt(method: string, path: string): Operation | null {
    const found = this.#patterns.find(({ operation, pattern }) => operation.method === method && pattern.test(path));
    return found?.operation ?? null;
  }

  /** Whether an operation says what it answers with under a status and content type. */
  describes({ method, path }: Operation, status: string, contentType: string): boolean {
    const responses = this.#document.paths[path]?.[method.toLowerCase()]?.responses;
    return responses?.[status]?.content?.[contentType] !== undefined;
  }

  /** What is wrong with an answer of an operation; null where it is as described. */
  answerErrors({ method, path }: Operation, status: string, contentType: string, value: unknown): string | null {
    const keys = ['paths', path, method.toLowerCase(), 'responses', status, 'content', contentType, 'schema'];
    return this.#errors(pointer(...keys), value);
  }

  /** What is wrong with a value of a named schema; null where it fits. */
  componentErrors(name: string, value: unknown): string | null {
    return this.#errors(pointer('components', 'schemas', name), value);
  }

  #errors(place: string, value: unknown): string | null {
    let validate = this.#validators.get(place);
    if (validate === undefined) {
      validate = this.#ajv.compile({ $ref: `${ID}#/${place}` });
      this.#validators.set(place, validate);
    }
    if (validate(value)) return null;
    const texts = (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message ?? ''}`);
    return [...new Set(texts)].slice(0, 6).join('; ');
  }
}

/** A path with a segment for each parameter; the names of models may hold slashes. */
function patternOf(path: string): RegExp {
  const text = path
    .replaceAll('.', '\\.')
    .replace('{model}', '.+')
    .replace(/\{\w+\}/g, '[^/]+');
  return new RegExp(`^${text}$`, 's');
}

function operationOf(path: string, method: string, { parameters = [], requestBody }: OperationObject): Operation {
  return {
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    parameters: parameters.map((parameter) => ({ ...parameter, required: parameter.required === true })),
    body: requestBody?.content['application/json']?.schema ?? null,
  };
}
