import { existsSync } from 'node:fs';

/** What an image is here: folders that lie over each other, and its configuration. */
export interface Image {
  /** Root file systems, the topmost first. Read only: what a container writes goes elsewhere. */
  layers: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Numbers as in `USER 10001:10001`. */
  user: string;
  workingDir: string;
  entrypoint: readonly string[];
  command: readonly string[];
}

/** An image of the machine's own programs, with `layers` over them: for tests, and where no image was assembled. */
export function machineImage(layers: readonly string[] = [], rest: Partial<Image> = {}): Image {
  return {
    layers: [...layers, '/'],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
    user: '0:0',
    workingDir: '/',
    entrypoint: [],
    command: ['sleep', 'infinity'],
    ...rest,
  };
}

/** The images that the nodes have, by name without tag and digest. There is no registry to pull others from. */
export class ImageTable {
  readonly #images = new Map<string, Image>();

  add(name: string, image: Image): void {
    const missing = image.layers.filter((layer) => !existsSync(layer));
    if (missing.length > 0) throw new Error(`image ${name}: no folder ${missing.join(', ')}`);
    this.#images.set(name, image);
  }

  /** The image of a reference such as `docker.io/valkey/valkey:9.1-alpine`, or undefined. */
  find(reference: string): Image | undefined {
    return this.#images.get(repositoryOf(reference));
  }
}

/** The name of a reference without its tag and digest. */
export function repositoryOf(reference: string): string {
  const named = reference.split('@')[0] as string;
  const slash = named.lastIndexOf('/');
  const colon = named.indexOf(':', slash + 1);
  return colon < 0 ? named : named.slice(0, colon);
}
