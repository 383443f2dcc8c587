interface Node<T> {
  item: T;
  rank: number;
  left: Node<T> | null;
  right: Node<T> | null;
}

/**
 * Items in the order of a comparison that never finds two of them equal. Adding, deleting and finding the first take
 * O(log n). What an item is compared by may change only while it is not in the set.
 */
export class OrderedSet<T> {
  readonly #compare: (a: T, b: T) => number;
  #root: Node<T> | null = null;
  #size = 0;
  #random = 0x9e3779b9;

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#size;
  }

  first(): T | undefined {
    let node = this.#root;
    while (node !== null && node.left !== null) node = node.left;
    return node?.item;
  }

  last(): T | undefined {
    let node = this.#root;
    while (node !== null && node.right !== null) node = node.right;
    return node?.item;
  }

  /** Adds an item; false when it, or one equal to it, is there. */
  add(item: T): boolean {
    if (this.has(item)) return false;
    const [before, after] = this.#split(this.#root, item);
    const node = { item, rank: this.#draw(), left: null, right: null };
    this.#root = merge(merge(before, node), after);
    this.#size += 1;
    return true;
  }

  has(item: T): boolean {
    let node = this.#root;
    while (node !== null) {
      const order = this.#compare(item, node.item);
      if (order === 0) return true;
      node = order < 0 ? node.left : node.right;
    }
    return false;
  }

  /** Deletes an item; false when it is not there. */
  delete(item: T): boolean {
    let parent: Node<T> | null = null;
    let node = this.#root;
    while (node !== null) {
      const order = this.#compare(item, node.item);
      if (order === 0) break;
      parent = node;
      node = order < 0 ? node.left : node.right;
    }
    if (node === null) return false;
    const rest = merge(node.left, node.right);
    if (parent === null) this.#root = rest;
    else if (parent.left === node) parent.left = rest;
    else parent.right = rest;
    this.#size -= 1;
    return true;
  }

  /** In order. The set must not change meanwhile. */
  *[Symbol.iterator](): Generator<T, void, undefined> {
    const path: Node<T>[] = [];
    let node = this.#root;
    while (node !== null || path.length > 0) {
      for (; node !== null; node = node.left) path.push(node);
      const top = path.pop() as Node<T>;
      yield top.item;
      node = top.right;
    }
  }

  /** Nodes before `item`, and those behind it. */
  #split(node: Node<T> | null, item: T): [Node<T> | null, Node<T> | null] {
    if (node === null) return [null, null];
    if (this.#compare(node.item, item) < 0) {
      const [before, after] = this.#split(node.right, item);
      node.right = before;
      return [node, after];
    }
    const [before, after] = this.#split(node.left, item);
    node.left = after;
    return [before, node];
  }

  /** Random ranks keep the tree (a treap) flat, whatever the order of arrival. */
  #draw(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return x;
  }
}

/** Joins two trees, all of the first before all of the second. */
function merge<T>(a: Node<T> | null, b: Node<T> | null): Node<T> | null {
  if (a === null) return b;
  if (b === null) return a;
  if (a.rank > b.rank) {
    a.right = merge(a.right, b);
    return a;
  }
  b.left = merge(a, b.left);
  return b;
}
