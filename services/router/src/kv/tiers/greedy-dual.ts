interface Node<K> {
  key: K;
  /** Value of a byte, milliseconds. */
  density: number;
  priority: number;
  /** Place in the heap. */
  at: number;
}

/**
 * GreedyDual-Size: what to evict first. The priority of a key is the clock plus its value by size; evicting moves the
 * clock up to what was evicted, so that a key that is not used for long falls behind those that are.
 */
export class GreedyDual<K> {
  #clock = 0;
  readonly #nodes = new Map<K, Node<K>>();
  /** Binary heap, lowest priority first; nodes know their places, so that any of them can move. */
  readonly #heap: Node<K>[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** Priority that a key of this density would have now. */
  priority(density: number): number {
    return this.#clock + density;
  }

  /** Adds a key, or gives a known one another density. `headStart` is added to its priority until it is used. */
  add(key: K, density: number, headStart = 0): void {
    this.delete(key);
    this.#push({ key, density, priority: this.#clock + density + headStart, at: 0 });
  }

  /** The key was used. */
  touch(key: K): void {
    const node = this.#nodes.get(key);
    if (node === undefined) return;
    node.priority = Math.max(node.priority, this.#clock + node.density);
    this.#sink(node);
  }

  delete(key: K): void {
    const node = this.#nodes.get(key);
    if (node === undefined) return;
    this.#nodes.delete(key);
    const last = this.#heap.pop() as Node<K>;
    if (last === node) return;
    this.#place(last, node.at);
    this.#rise(last);
    this.#sink(last);
  }

  /**
   * Takes out the worst keys, until `bytes` are free by `sizeOf`. Null where one of them ranks above `priority` or they
   * are too few; then all stay, but have aged: what is not let in counts as evicted, else old keys would stay for ever.
   * Keys that are `kept` are passed over.
   */
  evict(
    bytes: number,
    priority: number,
    sizeOf: (key: K) => number,
    kept: (key: K) => boolean = () => false,
  ): K[] | null {
    const taken: Node<K>[] = [];
    const passed: Node<K>[] = [];
    let missing = bytes;
    let refused = false;
    while (missing > 0) {
      const worst = this.#heap[0];
      refused = worst !== undefined && worst.priority > priority;
      if (worst === undefined || refused) break;
      this.delete(worst.key);
      if (kept(worst.key)) passed.push(worst);
      else {
        taken.push(worst);
        missing -= sizeOf(worst.key);
      }
    }
    for (const node of missing > 0 ? [...passed, ...taken] : passed) this.#push(node);
    if (refused) this.#age(priority);
    if (missing > 0) return null;
    for (const node of taken) this.#age(node.priority);
    return taken.map(({ key }) => key);
  }

  /** Keys, best first. */
  ranking(): K[] {
    return [...this.#heap].sort((a, b) => b.priority - a.priority).map(({ key }) => key);
  }

  #age(priority: number): void {
    this.#clock = Math.max(this.#clock, priority);
  }

  #push(node: Node<K>): void {
    this.#nodes.set(node.key, node);
    this.#place(node, this.#heap.length);
    this.#rise(node);
  }

  #place(node: Node<K>, at: number): void {
    node.at = at;
    this.#heap[at] = node;
  }

  #rise(node: Node<K>): void {
    while (node.at > 0) {
      const parent = this.#heap[(node.at - 1) >> 1] as Node<K>;
      if (parent.priority <= node.priority) return;
      const { at } = parent;
      this.#place(parent, node.at);
      this.#place(node, at);
    }
  }

  #sink(node: Node<K>): void {
    for (;;) {
      const left = this.#heap[2 * node.at + 1];
      const right = this.#heap[2 * node.at + 2];
      const child = right !== undefined && left !== undefined && right.priority < left.priority ? right : left;
      if (child === undefined || child.priority >= node.priority) return;
      const { at } = child;
      this.#place(child, node.at);
      this.#place(node, at);
    }
  }
}
