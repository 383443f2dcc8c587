import type { WeightFormat } from '@guildhall/native';
import { fail } from '@guildhall/common';
import { z } from 'zod';
import {
  type Accelerator,
  FORMAT_SPEED,
  MACHINE_KINDS,
  type MachineKind,
  machineKind,
  REACHED,
} from '../catalogue/machine-kinds.ts';
import { type HostCosts, MEASURED_HOST } from '../catalogue/host-costs.ts';
import { byteRateOf, bytesOf, flopsOf, linkOf } from '../catalogue/units.ts';

const text = z.string().min(1).max(64);

/** One kind of machine that there is, as `--machine` and the files of `--machines` say it. */
export const machineSchema = z.strictObject({
  kind: text.describe('A name of `guildhall plan --list`, or any other name with memory, bandwidth and flops.'),
  count: z.coerce.number().int().min(1).max(10_000).default(1).describe('Machines of this kind.'),
  gpus: z.coerce.number().int().min(1).max(64).default(1).describe('Cards in each of them; they share its network.'),
  memory: text.optional().describe('Memory of a card, or of a machine without one, such as 80GiB.'),
  bandwidth: text.optional().describe('Memory bandwidth that is reached, such as 2.5TB/s.'),
  flops: text.optional().describe('BF16 operations that are reached, such as 400TFLOPS.'),
  cores: z.coerce.number().int().min(1).max(4096).optional().describe('Cores of a machine.'),
  network: text.default('25Gbit').describe('Line rate of a machine, such as 25Gbit.'),
  price: z.coerce.number().min(0).max(1e6).optional().describe('Price of a machine for an hour, in any currency.'),
  role: z.enum(['any', 'router', 'expert']).default('any').describe('What may run there.'),
});

export type MachineSpec = z.output<typeof machineSchema>;

/** Machines of one kind, by what one process gets: a card with its part of the machine, or the whole machine. */
export interface Machine {
  kind: string;
  accelerator: Accelerator;
  /** Places for processes: cards, or machines without one. */
  slots: number;
  /** Slots of one machine, which fail together. */
  perHost: number;
  memoryBytes: number;
  bytesPerSecond: number;
  flopsPerSecond: number;
  /** Of a whole machine. */
  cores: number;
  /** Payload bytes a second of a slot's part of the network, each way. */
  link: number;
  /** Of one slot; null where it is not known. */
  pricePerHour: number | null;
  role: MachineSpec['role'];
  host: HostCosts;
}

/** Reads machines. @throws config_invalid naming the field. */
export function machineOf(spec: MachineSpec, host: HostCosts = MEASURED_HOST): Machine {
  const known = machineKind(spec.kind);
  const accelerator = known?.accelerator ?? 'none';
  const gpus = accelerator === 'cuda' ? spec.gpus : 1;
  const figures = figuresOf(spec, known);
  return {
    kind: spec.kind,
    accelerator,
    slots: spec.count * gpus,
    perHost: gpus,
    ...figures,
    cores: spec.cores ?? (known?.cores ?? 8) * gpus,
    link: linkOf('network', spec.network) / gpus,
    pricePerHour: spec.price === undefined ? null : spec.price / gpus,
    role: spec.role,
    host,
  };
}

function figuresOf(
  spec: MachineSpec,
  known: MachineKind | null,
): Pick<Machine, 'memoryBytes' | 'bytesPerSecond' | 'flopsPerSecond'> {
  const reached = REACHED[known?.accelerator ?? 'none'];
  const need = (field: 'memory' | 'bandwidth' | 'flops', read: (what: string, text: string) => number, by: number) => {
    const given = spec[field];
    if (given !== undefined) return read(field, given);
    if (known !== null) return by;
    const names = MACHINE_KINDS.map(({ name }) => name).join(', ');
    throw fail('config_invalid', `machine kind ${spec.kind} is none of ${names}: say its ${field} too`, { field });
  };
  return {
    memoryBytes: need('memory', bytesOf, known?.memoryBytes ?? 0),
    bytesPerSecond: need('bandwidth', byteRateOf, (known?.bytesPerSecond ?? 0) * reached.bandwidth),
    flopsPerSecond: need('flops', flopsOf, (known?.flopsPerSecond ?? 0) * reached.flops),
  };
}

/** Rates of a machine for matrices in a format. */
export function processorOf(
  { accelerator, bytesPerSecond, flopsPerSecond }: Machine,
  format: WeightFormat,
): { bytesPerSecond: number; flopsPerSecond: number } {
  return { bytesPerSecond, flopsPerSecond: flopsPerSecond * FORMAT_SPEED[accelerator][format] };
}

/** Reads `kind=h100,count=4,…`. @throws config_invalid naming the field. */
export function parseMachine(flag: string): MachineSpec {
  const fields: Record<string, string> = {};
  for (const part of flag.split(',')) {
    const at = part.indexOf('=');
    if (at < 1) throw fail('config_invalid', `--machine '${part}' is not name=value`, { field: 'machine' });
    fields[part.slice(0, at).trim()] = part.slice(at + 1).trim();
  }
  return checkMachine(fields, '--machine');
}

/** Checks one machine of a flag or a file. @throws config_invalid naming the field. */
export function checkMachine(value: unknown, where: string): MachineSpec {
  const result = machineSchema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = issue?.path.join('.') ?? '';
  throw fail('config_invalid', `${where}: ${field === '' ? '' : `${field}: `}${issue?.message ?? 'not a machine'}`, {
    field: 'machine',
  });
}
