import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Ajv } from 'ajv';
import { loadConfig, optionsOf } from '@guildhall/common';
import { parse } from 'yaml';
import type { z } from 'zod';
import { PROGRAMS, UID } from '../../scripts/image/layout.ts';
import { ROOT } from '../harness/service-process.ts';

const TEXT = readFileSync(join(ROOT, 'deploy', 'compose.yaml'), 'utf8');
const SECRETS = {
  GUILDHALL_CLUSTER_TOKEN: 'c0ffee00c0ffee00',
  GUILDHALL_REDIS_PASSWORD: 'deadbeefdeadbeef',
  GUILDHALL_API_KEY: 'feedfacefeedface',
};

interface Service {
  image: string;
  command?: string[];
  entrypoint?: string[];
  environment?: Record<string, string | number>;
  user?: string;
  read_only?: boolean;
  cap_drop?: string[];
  cap_add?: string[];
  privileged?: boolean;
  security_opt?: string[];
  ports?: string[];
  networks?: string[];
  mem_limit?: string;
  volumes?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
}

interface Compose {
  services: Record<string, Service>;
  networks: Record<string, { internal?: boolean }>;
  volumes: Record<string, object>;
}

/** Compose's interpolation, as far as the file uses it: `${A}`, `${A:-default}`, `${A:?message}`. */
function interpolate(text: string, env: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (_, name: string, kind?: string, rest?: string) => {
    const value = env[name] ?? '';
    if (value !== '') return value;
    if (kind === '?') throw new Error(`${name}: ${rest}`);
    return kind === '-' ? (rest ?? '') : '';
  });
}

function compose(env: Readonly<Record<string, string>> = SECRETS): Compose {
  return parse(interpolate(TEXT, env), { merge: true }) as Compose;
}

/** Services that run a program of ours, with the program's name. */
function ours({ services }: Compose): { name: string; program: string; service: Service }[] {
  return Object.entries(services).flatMap(([name, service]) => {
    const program = service.entrypoint?.[0] ?? service.command?.[0] ?? '';
    return name === 'valkey' ? [] : [{ name, program, service }];
  });
}

async function schemaOf(service: string): Promise<z.ZodObject> {
  const module = (await import(`../../services/${service}/src/config.ts`)) as Record<string, z.ZodObject>;
  return module[`${service}Schema`] as z.ZodObject;
}

describe('deploy/compose.yaml', () => {
  test('it is what the Compose specification allows', () => {
    const file = join(ROOT, 'node_modules', 'dclint', 'schemas', 'compose.schema.json');
    const schema = JSON.parse(readFileSync(file, 'utf8')) as { $schema?: string };
    // Ajv knows the draft by the name with a fragment.
    delete schema.$schema;
    const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema);
    assert.ok(validate(compose()), JSON.stringify(validate.errors, null, 1));
    const { services } = compose();
    assert.ok(!validate({ services: { ...services, gateway: { ...services['gateway'], colour: 'red' } } }));
  });

  test('the configuration of every service is one that the service accepts', async () => {
    const checked: string[] = [];
    for (const { name, program, service } of ours(compose())) {
      const kind = /^guildhall-(\w+)$/.exec(program)?.[1];
      if (kind === undefined) continue;
      const schema = await schemaOf(kind);
      const env = Object.fromEntries(
        Object.entries(service.environment ?? {}).map(([key, value]) => [key, String(value)]),
      );
      const known = new Set(optionsOf(schema).map((option) => option.env));
      assert.deepEqual(
        Object.keys(env).filter((key) => !known.has(key)),
        [],
        name,
      );
      const config = loadConfig(schema, { program, argv: [], env }) as Record<string, unknown>;
      assert.equal(config['adminListen'], '0.0.0.0:9090', name);
      checked.push(name);
    }
    assert.deepEqual(checked.toSorted(), ['controller', 'expert-1', 'expert-2', 'gateway', 'router', 'router-2']);
  });

  test('every process is as confined as in the chart', () => {
    const file = compose();
    for (const { name, program, service } of ours(file)) {
      assert.ok(program in PROGRAMS, `${name} runs ${program}`);
      // The one that fills the volume of models owns it.
      assert.equal(service.user, name === 'pull' ? '0:0' : `${UID}:${UID}`, name);
    }
    for (const [name, service] of Object.entries(file.services)) {
      assert.equal(service.read_only, true, name);
      assert.deepEqual(service.cap_drop, ['ALL'], name);
      assert.deepEqual(service.security_opt, ['no-new-privileges:true'], name);
      assert.equal(service.cap_add ?? service.privileged, undefined, name);
      if (name !== 'pull') assert.ok(service.mem_limit, `${name} has a memory limit`);
    }
  });

  test('only the gateway is published, on loopback unless told otherwise; the cluster’s network is internal', () => {
    const { services, networks } = compose();
    assert.equal(networks['cluster']?.internal, true);
    const published = Object.entries(services).filter(([, { ports }]) => ports !== undefined);
    assert.deepEqual(
      published.map(([name, { ports }]) => [name, ports]),
      [['gateway', ['127.0.0.1:8000:8000']]],
    );
    const outside = Object.entries(services).filter(([, service]) => service.networks?.includes('edge'));
    assert.deepEqual(outside.map(([name]) => name).toSorted(), ['gateway', 'pull']);
  });

  test('what a service waits for exists and tells its health', () => {
    const { services, volumes } = compose();
    for (const [name, service] of Object.entries(services)) {
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        assert.equal(condition, 'service_healthy', `${name} waits for ${other}`);
        assert.ok(services[other]?.healthcheck, `${name} waits for ${other}, which has a health check`);
      }
      for (const volume of service.volumes ?? [])
        assert.ok((volume.split(':')[0] ?? '') in volumes, `${name}: ${volume}`);
    }
  });

  test('it does not start without secrets, and has none of its own', () => {
    for (const name of Object.keys(SECRETS))
      assert.throws(() => compose({ ...SECRETS, [name]: '' }), new RegExp(name), `without ${name}`);
    const example = readFileSync(join(ROOT, 'deploy', 'compose.env.example'), 'utf8');
    for (const name of Object.keys(SECRETS)) assert.match(example, new RegExp(`^${name}=$`, 'm'));
  });

  test('the example of .env names every variable that the file reads, and no other', () => {
    const example = readFileSync(join(ROOT, 'deploy', 'compose.env.example'), 'utf8');
    const named = [...example.matchAll(/^#?(\w+)=/gm)].map((match) => match[1] as string);
    const read = [...TEXT.matchAll(/\$\{(\w+)/g)].map((match) => match[1] as string);
    assert.deepEqual([...new Set(named)].toSorted(), [...new Set(read)].toSorted());
  });
});
