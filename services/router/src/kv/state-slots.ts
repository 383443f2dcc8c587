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
  readonly #owners = new Map<SlotId, string>();
  readonly #free: SlotId[];

  /** Slots [first, first + numSlots) of the pool. Errors: `config_invalid` without at least one slot. */
  constructor(numSlots: number, first = 0) {
    if (!Number.isInteger(numSlots) || numSlots < 1) {
      throw fail('config_invalid', `at least one state slot is needed, got ${numSlots}`, { field: 'maxRunning' });
    }
    this.numSlots = numSlots;
    this.#free = Array.from({ length: numSlots }, (_, i) => (first + numSlots - 1 - i) as SlotId);
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
    this.#owners.set(slot, owner);
    return slot;
  }

  /** Errors: `integrity` when the slot is not the owner's. */
  free(slot: SlotId, owner: string): void {
    if (this.#owners.get(slot) !== owner) {
      throw fail('integrity', `state slot ${slot} belongs to ${this.#owners.get(slot) ?? 'nobody'}, not to ${owner}`);
    }
    this.#owners.delete(slot);
    this.#free.push(slot);
  }

  /** Compares the owners with those that say they hold a slot. Errors: `integrity`. */
  checkIntegrity(holders: Iterable<{ readonly owner: string; readonly slot: SlotId }>): void {
    let held = 0;
    for (const { owner, slot } of holders) {
      if (this.#owners.get(slot) !== owner)
        throw fail('integrity', `${owner} holds state slot ${slot} that is not its own`);
      held += 1;
    }
    if (held + this.#free.length !== this.numSlots) {
      throw fail('integrity', `${held} state slots held and ${this.#free.length} free of ${this.numSlots}`);
    }
  }
}
