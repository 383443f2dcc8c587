import { fail } from '@guildhall/common';

declare const slotBrand: unique symbol;
/** Number of a slot of the DeltaNet state pool. */
export type SlotId = number & { readonly [slotBrand]: true };

/**
 * Account of the state slots; each has one owner or none. A model without DeltaNet layers has slots as well, which
 * bound the sequences that are admitted at a time.
 */
export class StateSlots {
  readonly numSlots: number;
  readonly #owners: (string | null)[];
  readonly #free: SlotId[];

  /** Errors: `config_invalid` without at least one slot. */
  constructor(numSlots: number) {
    if (!Number.isInteger(numSlots) || numSlots < 1) {
      throw fail('config_invalid', `at least one state slot is needed, got ${numSlots}`, { field: 'maxRunning' });
    }
    this.numSlots = numSlots;
    this.#owners = Array.from({ length: numSlots }, () => null);
    this.#free = Array.from({ length: numSlots }, (_, i) => (numSlots - 1 - i) as SlotId);
  }

  get numFree(): number {
    return this.#free.length;
  }

  can(): boolean {
    return this.#free.length > 0;
  }

  /** Takes a slot for `owner`. Errors: `integrity` when none is free; ask `can` first. */
  allocate(owner: string): SlotId {
    const slot = this.#free.pop();
    if (slot === undefined) throw fail('integrity', 'no state slot is free');
    this.#owners[slot] = owner;
    return slot;
  }

  /** Errors: `integrity` when the slot is not the owner's. */
  free(slot: SlotId, owner: string): void {
    if (this.#owners[slot] !== owner) {
      throw fail('integrity', `state slot ${slot} belongs to ${this.#owners[slot] ?? 'nobody'}, not to ${owner}`);
    }
    this.#owners[slot] = null;
    this.#free.push(slot);
  }

  /** Compares the owners with those that say they hold a slot. Errors: `integrity`. */
  checkIntegrity(holders: Iterable<{ readonly owner: string; readonly slot: SlotId }>): void {
    let held = 0;
    for (const { owner, slot } of holders) {
      if (this.#owners[slot] !== owner)
        throw fail('integrity', `${owner} holds state slot ${slot} that is not its own`);
      held += 1;
    }
    if (held + this.#free.length !== this.numSlots) {
      throw fail('integrity', `${held} state slots held and ${this.#free.length} free of ${this.numSlots}`);
    }
  }
}
