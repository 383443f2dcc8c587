import { existsSync, readFileSync } from 'node:fs';
import { errorMessage, fail } from '@guildhall/common';
import { KV_DTYPES, WEIGHT_FORMATS } from '@guildhall/model/weights';
import { parse } from 'yaml';
import { z } from 'zod';
import { type HostCosts, hostCostsSchema, MEASURED_HOST } from '../catalogue/host-costs.ts';
import { findModel } from '../catalogue/models.ts';
import { durationOf } from '../catalogue/units.ts';
import { checkMachine, type Machine, machineOf, type MachineSpec, parseMachine } from './machines.ts';
import type { PlanRequest } from './request.ts';

const MOST_FILE_BYTES = 1 << 20;
const MOST_KINDS = 16;

const tokens = z.coerce.number().int().min(1).max(16_777_216);

/** Flags of `guildhall plan`, as commander gives them. */
const flagsSchema = z.object({
  model: z.string().min(1),
  machine: z.array(z.string()).default([]),
  machines: z.string().optional(),
  hostCosts: z.string().optional(),
  users: z.coerce.number().int().min(1).max(1_000_000).optional(),
  context: tokens.optional(),
  promptTokens: tokens,
  outputTokens: tokens,
  requestsPerSecond: z.coerce.number().gt(0).max(1e6).optional(),
  prefixHit: z.coerce.number().min(0).max(1),
  sloTtft: z.string().optional(),
  sloItl: z.string().optional(),
  weights: z.enum([...WEIGHT_FORMATS, 'auto']),
  kvDtype: z.enum(KV_DTYPES),
  combine: z.enum(['exact', 'partial', 'auto']),
  copies: z.enum(['auto', '1', '2', '3', '4']),
  layerShards: z.union([z.literal('auto'), z.coerce.number().int().min(1).max(1024)]),
  experts: z.enum(['remote', 'local', 'auto']),
  routers: z.coerce.number().int().min(1).max(10_000).optional(),
  workers: z.coerce.number().int().min(1).max(10_000).optional(),
});

/** Values of the routers' decodeSlowdown that are tried: the default, and one that gives prompts more room. */
const SLOWDOWNS = [1.6, 3];

/**
 * Reads the flags of the command.
 * @throws config_invalid naming the flag, and what it may be.
 */
export function requestOf(flags: unknown, env: Record<string, string | undefined>): PlanRequest {
  const result = flagsSchema.safeParse(flags);
  if (!result.success) {
    const [issue] = result.error.issues;
    const flag = `--${String(issue?.path[0] ?? '').replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw fail('config_invalid', `${flag}: ${issue?.message ?? 'not understood'}`, { field: flag });
  }
  const given = result.data;
  const context = given.context ?? given.promptTokens + given.outputTokens;
  if (context < given.promptTokens + given.outputTokens) {
    const least = given.promptTokens + given.outputTokens;
    throw fail('config_invalid', `--context ${context} is less than prompt and answer together, ${least}`, {
      field: 'context',
    });
  }
  return {
    model: findModel(given.model, env),
    machines: machinesOf(given),
    traffic: {
      // Without a rate somebody must ask.
      users: given.users ?? (given.requestsPerSecond === undefined ? 1 : null),
      context,
      promptTokens: given.promptTokens,
      outputTokens: given.outputTokens,
      requestsPerSecond: given.requestsPerSecond ?? null,
      prefixHit: given.prefixHit,
      sloTtftMs: given.sloTtft === undefined ? null : durationOf('slo-ttft', given.sloTtft),
      sloItlMs: given.sloItl === undefined ? null : durationOf('slo-itl', given.sloItl),
    },
    weights: given.weights === 'auto' ? ['bf16', 'fp8', 'q8', 'q4'] : [given.weights],
    kvDtype: given.kvDtype,
    combine: given.combine === 'auto' ? ['exact', 'partial'] : [given.combine],
    copies: given.copies === 'auto' ? [2, 1] : [Number(given.copies)],
    layerShards: given.layerShards,
    experts: given.experts === 'auto' ? ['remote', 'local'] : [given.experts],
    routers: given.routers ?? null,
    workers: given.workers ?? null,
    decodeSlowdown: SLOWDOWNS,
  };
}

function machinesOf({ machine, machines, hostCosts }: z.output<typeof flagsSchema>): Machine[] {
  const specs = machine.map(parseMachine);
  if (machines !== undefined) specs.push(...readMachines(machines));
  if (specs.length === 0) {
    throw fail(
      'config_invalid',
      'no machines: say --machine kind=h100,count=4 or --machines FILE (guildhall plan --list)',
      {
        field: 'machine',
      },
    );
  }
  if (specs.length > MOST_KINDS)
    throw fail('config_invalid', `more than ${MOST_KINDS} kinds of machines`, { field: 'machine' });
  const host = hostCosts === undefined ? MEASURED_HOST : readHostCosts(hostCosts);
  return specs.map((spec) => machineOf(spec, host));
}

/** What `plan --measure --save` found, or the same fields by themselves. */
function readHostCosts(file: string): HostCosts {
  const content = readData(file) as { host?: unknown } | null;
  const result = hostCostsSchema.safeParse(content?.host ?? content);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const what = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not understood'}`;
  throw fail('config_invalid', `--host-costs ${file}: ${what}`, { field: 'hostCosts' });
}

/** A list of machines in YAML or JSON, at the top or under `machines`. */
function readMachines(file: string): MachineSpec[] {
  const content = readData(file);
  const nested = (content as { machines?: unknown } | null)?.machines;
  const list = Array.isArray(content) ? content : nested;
  if (!Array.isArray(list)) {
    throw fail('config_invalid', `${file} holds no list of machines`, { field: 'machines' });
  }
  return list.map((entry, i) => checkMachine(entry, `${file}: machine ${i + 1}`));
}

/** Contents of a file in YAML or JSON. */
function readData(file: string): unknown {
  if (!existsSync(file)) throw fail('config_invalid', `there is no file ${file}`, { field: 'machines' });
  const text = readFileSync(file, 'utf8');
  if (text.length > MOST_FILE_BYTES)
    throw fail('config_invalid', `${file} is larger than 1 MiB`, { field: 'machines' });
  try {
    return parse(text, { maxAliasCount: 100 });
  } catch (err) {
    throw fail('config_invalid', `${file} is neither YAML nor JSON: ${errorMessage(err)}`, { field: 'machines' });
  }
}
