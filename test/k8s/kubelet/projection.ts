import type { V1KeyToPath, V1Pod, V1Volume, V1VolumeProjection } from '@kubernetes/client-node';
import { type NodeResources, type PodFacts, fieldValue, resourceValue } from './downward.ts';
import { MissingReference } from './environment.ts';

/** A file of a projected volume. */
export interface ProjectedFile {
  content: Buffer;
  mode: number;
}

/** Where the contents of volumes come from. */
export interface ProjectionSource {
  configMapFiles(name: string): Promise<Record<string, Buffer> | undefined>;
  secretFiles(name: string): Promise<Record<string, Buffer> | undefined>;
  /** A token for the pod's service account, bound to the pod. */
  token(audience: string | undefined, seconds: number): Promise<string>;
}

/** Everything that decides the files of a pod's volumes. */
export interface ProjectionInput {
  /** The newest object: labels and annotations of mounted files change. */
  pod: () => V1Pod;
  facts: PodFacts;
  node: NodeResources;
  source: ProjectionSource;
}

const DEFAULT_MODE = 0o644;
type Files = Map<string, ProjectedFile>;

/** True for volumes whose files this module makes. */
export function isProjection(volume: V1Volume): boolean {
  return [volume.configMap, volume.secret, volume.downwardAPI, volume.projected].some((source) => source !== undefined);
}

/** Files of a configMap, secret, downwardAPI or projected volume, by path within it. Throws MissingReference. */
export async function projectedFiles(input: ProjectionInput, volume: V1Volume): Promise<Files> {
  const { configMap, secret, downwardAPI, projected } = volume;
  if (projected !== undefined) {
    const parts = await Promise.all(
      (projected.sources ?? []).map((source) => projectedPart(input, source, projected.defaultMode)),
    );
    return new Map(parts.flatMap((part) => [...part]));
  }
  if (downwardAPI !== undefined) return await projectedPart(input, { downwardAPI }, downwardAPI.defaultMode);
  if (configMap !== undefined) return await projectedPart(input, { configMap }, configMap.defaultMode);
  if (secret !== undefined) {
    const { secretName, items, optional } = secret;
    const reference = { name: secretName ?? '', ...(items && { items }), ...(optional && { optional }) };
    return await projectedPart(input, { secret: reference }, secret.defaultMode);
  }
  return new Map();
}

async function projectedPart(
  input: ProjectionInput,
  source: V1VolumeProjection,
  defaultMode: number = DEFAULT_MODE,
): Promise<Files> {
  const { configMap, secret, downwardAPI, serviceAccountToken } = source;
  if (serviceAccountToken !== undefined) {
    const { audience, expirationSeconds = 3600, path } = serviceAccountToken;
    const token = await input.source.token(audience, expirationSeconds);
    return new Map([[path, { content: Buffer.from(token), mode: defaultMode }]]);
  }
  if (downwardAPI !== undefined) return downwardFiles(input, downwardAPI.items ?? [], defaultMode);
  const reference = configMap ?? secret;
  if (reference === undefined) throw new Error(`volume source is not supported: ${Object.keys(source).join(', ')}`);
  const name = reference.name ?? '';
  const kind = configMap === undefined ? 'secret' : 'configmap';
  const data = await (kind === 'secret' ? input.source.secretFiles(name) : input.source.configMapFiles(name));
  if (data === undefined && reference.optional !== true) throw new MissingReference(`${kind} "${name}" not found`);
  return chosen(data ?? {}, reference.items, defaultMode, `${kind} "${name}"`, reference.optional === true);
}

function chosen(
  data: Record<string, Buffer>,
  items: V1KeyToPath[] | undefined,
  defaultMode: number,
  what: string,
  optional: boolean,
): Files {
  if (items === undefined) {
    return new Map(Object.entries(data).map(([key, content]) => [key, { content, mode: defaultMode }]));
  }
  const files: Files = new Map();
  for (const { key, path, mode } of items) {
    const content = data[key];
    if (content !== undefined) files.set(path, { content, mode: mode ?? defaultMode });
    else if (!optional) throw new MissingReference(`${what} has no key ${key}`);
  }
  return files;
}

type DownwardItems = NonNullable<NonNullable<V1Volume['downwardAPI']>['items']>;

function downwardFiles(input: ProjectionInput, items: DownwardItems, defaultMode: number): Files {
  const { facts, node } = input;
  const pod = input.pod();
  return new Map(
    items.map(({ path, fieldRef, resourceFieldRef, mode }) => {
      const [first] = pod.spec?.containers ?? [];
      let text = '';
      if (fieldRef !== undefined) text = fieldValue(pod, facts, fieldRef.fieldPath);
      else if (resourceFieldRef !== undefined && first !== undefined) {
        text = resourceValue(pod, first, resourceFieldRef, node);
      }
      return [path, { content: Buffer.from(text), mode: mode ?? defaultMode }];
    }),
  );
}
