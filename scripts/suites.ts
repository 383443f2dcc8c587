/** Cores of the machine that budgets are made for. */
export const MACHINE_CORES = 2;

/** One runnable group of checks. */
export interface Suite {
  name: string;
  /** What it proves, one line. */
  about: string;
  /** Seconds on two cores; the suite is ended and fails when it takes longer than three times as long. */
  budgetSeconds: number;
  kind: 'node' | 'ctest' | 'command';
  /** Test file globs (node), build folder (ctest), or argument vector (command). */
  run: string[];
  /** Globs of test files that another suite runs. */
  except?: string[];
  /** Commands that must succeed first. */
  before?: string[][];
  /** Arguments that the test runner is started through, such as a sandbox. */
  within?: string[];
  /** Seconds that one test may take; 300 where nothing is said. */
  testSeconds?: number;
  /**
   * Cores that it takes: suites that take less than the machine run beside others where `--together` says so. Where
   * nothing is said it has the machine alone: it computes, its deadlines are short, or others use its ports and folders.
   */
  cores?: number;
  /** Test files that run at the same time; processes and Redis are cheap, native threads are not. */
  concurrency?: number;
}

const node = process.execPath;

/** Tests with several real routers and their pools: too long for every change. */
const ROUTERS = [
  'services/router/src/router.test.ts',
  'services/router/src/router-numerics.test.ts',
  'services/router/src/long-prompt.test.ts',
  'services/router/src/router-faults.test.ts',
  'services/router/src/router-modes.test.ts',
  'services/router/src/router-peers.test.ts',
  'services/router/src/router-swap.test.ts',
  'services/router/src/kv/tiers/crash.test.ts',
];

/** Units that start many processes or compute for long: too long for every change. */
const LONG_UNITS = [
  'services/cli/src/check/check.test.ts',
  'services/cli/src/commands/{drain,drain-worker,keys}.test.ts',
  'services/cli/src/hub/{pull-parts,s3-source}.test.ts',
  'services/cli/src/plan/simulated.test.ts',
  'services/cli/src/simulate/simulation.test.ts',
  'services/controller/src/autoscaler/simulation/simulation.test.ts',
  'services/router/src/grammar/{counting,grammars}.test.ts',
];

/** Whole clusters that start more than once, or that are asked for long. */
const CLUSTERS = [
  'test/e2e/{bench-serve,dialects,kept-accounts}.test.ts',
  'test/integration/{batches-s3,bench-prefix,memory-soak,redis-cluster,usage-sums,weights-from-peers}.test.ts',
];

/** Tests with real containers. */
const RELEASE = ['test/k8s/kubelet.test.ts', 'test/k8s/release.test.ts', 'test/k8s/autoscaler.test.ts'];

export const SUITES: Suite[] = [
  {
    name: 'format',
    about: 'every file is formatted',
    budgetSeconds: 30,
    kind: 'command',
    run: ['prettier', '--check', '--log-level', 'warn', '.'],
  },
  { name: 'types', about: 'tsc accepts every source', budgetSeconds: 30, kind: 'command', run: ['tsc', '-p', '.'] },
  {
    name: 'lint',
    about: 'type-aware lint, floating promises among it',
    budgetSeconds: 60,
    kind: 'command',
    run: ['oxlint', '--type-aware', '--max-warnings', '0'],
  },
  {
    name: 'generated',
    about: 'generated code and documents are up to date',
    budgetSeconds: 60,
    kind: 'command',
    run: [node, 'scripts/generate.ts', '--check'],
  },
  {
    name: 'images',
    about: 'the sources compile to JavaScript for images, and every service starts from there',
    budgetSeconds: 60,
    kind: 'command',
    run: [node, 'scripts/build-images.ts', '--check'],
  },
  {
    name: 'architecture',
    about: 'import directions, names, documents that point at files',
    budgetSeconds: 30,
    kind: 'node',
    run: ['test/architecture/*.test.ts'],
  },
  {
    name: 'kernels',
    about: 'native operators against naive references on odd sizes, every instruction set alike',
    budgetSeconds: 60,
    kind: 'ctest',
    run: ['native/build'],
  },
  {
    name: 'unit',
    about: 'each package beside its code, with real Redis and real gRPC',
    budgetSeconds: 450,
    kind: 'node',
    run: ['native/test/*.test.ts', 'services/*/src/**/*.test.ts', 'scripts/*.test.ts', 'bench/src/**/*.test.ts'],
    except: [...ROUTERS, ...LONG_UNITS],
    concurrency: 3,
  },
  {
    name: 'long-units',
    about: 'units that start many processes or compute for long: commands, simulations, grammars',
    budgetSeconds: 180,
    kind: 'node',
    run: LONG_UNITS,
    concurrency: 3,
  },
  {
    name: 'routers',
    about: 'real routers: numerics, tiers, transfers, swaps, long prompts, faults',
    budgetSeconds: 270,
    kind: 'node',
    run: ROUTERS,
    concurrency: 2,
  },
  {
    name: 'vectors',
    about: 'blocks and whole models against the Hugging Face reference; same bits',
    budgetSeconds: 180,
    kind: 'node',
    run: ['test/vectors/*.test.ts'],
    concurrency: 2,
  },
  {
    name: 'integration',
    about: 'several real processes: hello, placement, bad checkpoints, bad messages',
    budgetSeconds: 150,
    cores: 1,
    kind: 'node',
    run: ['test/integration/*.test.ts'],
    except: CLUSTERS,
    concurrency: 1,
  },
  {
    name: 'e2e',
    about: 'the whole stack through the official client',
    budgetSeconds: 170,
    cores: 1,
    kind: 'node',
    run: ['test/e2e/*.test.ts'],
    except: CLUSTERS,
    concurrency: 1,
  },
  {
    name: 'clusters',
    about: 'whole clusters: restarts, Redis Cluster, S3, sums of usage, long loads, dialects over real routers',
    budgetSeconds: 300,
    cores: 1,
    kind: 'node',
    run: CLUSTERS,
    concurrency: 1,
  },
  {
    name: 'compat',
    about: 'the official clients of OpenAI, Anthropic and Vercel over the whole API; the conformance table',
    budgetSeconds: 120,
    cores: 1,
    kind: 'node',
    before: [[node, 'test/compat/python.ts']],
    run: ['test/compat/*.test.ts'],
    concurrency: 1,
  },
  {
    name: 'fuzz',
    about: 'requests made from the API description, right and hostile: every answer is as described, or a refusal',
    budgetSeconds: 60,
    cores: 1,
    kind: 'node',
    run: ['test/fuzz/*.test.ts'],
    concurrency: 1,
  },
  {
    name: 'faults',
    about: 'processes killed, moved and partitioned while tokens flow',
    budgetSeconds: 400,
    cores: 1,
    kind: 'node',
    run: ['test/faults/*.test.ts'],
    except: ['test/faults/chaos.test.ts'],
    concurrency: 1,
  },
  {
    name: 'chaos',
    about: 'a cluster in network namespaces under load, with faults of processes, links, answers and Redis',
    budgetSeconds: 240,
    cores: 1,
    kind: 'node',
    run: ['test/faults/chaos.test.ts'],
    concurrency: 1,
  },
  {
    name: 'machines',
    about: 'a cluster of machines in network namespaces: joining, certificates, tokens, restarts',
    budgetSeconds: 120,
    cores: 1,
    kind: 'node',
    run: ['test/machines/*.test.ts'],
    concurrency: 1,
  },
  {
    name: 'monitoring',
    about: 'alerts by promtool, and every panel of the dashboards by a real Prometheus over a real run',
    budgetSeconds: 120,
    cores: 1,
    kind: 'node',
    run: ['test/monitoring/*.test.ts'],
    concurrency: 1,
  },
  {
    name: 'chart',
    about: 'the Helm chart over sets of values: schemas, policies, rollouts, refusals, packages',
    budgetSeconds: 120,
    kind: 'node',
    run: ['test/chart/*.test.ts'],
    concurrency: 2,
  },
  {
    name: 'k8s',
    about: 'a real control plane: the controller, the autoscaler on fake nodes, the chart on its API server',
    budgetSeconds: 600,
    kind: 'node',
    before: [[node, 'test/k8s/main.ts', 'binaries']],
    within: [node, 'test/k8s/main.ts', 'sandbox', '--'],
    run: ['test/k8s/**/*.test.ts'],
    except: RELEASE,
    testSeconds: 900,
    concurrency: 1,
  },
  {
    name: 'release',
    about: 'pods as real containers: a release of the chart under load, with upgrades, losses and scaling',
    budgetSeconds: 900,
    kind: 'node',
    before: [
      [node, 'test/k8s/main.ts', 'binaries'],
      [node, 'test/k8s/main.ts', 'image'],
    ],
    within: [node, 'test/k8s/main.ts', 'sandbox', '--'],
    run: RELEASE,
    testSeconds: 900,
    concurrency: 1,
  },
  {
    name: 'image',
    about:
      'the container image: what is in it, its processes under the security context of the chart, the Compose file',
    budgetSeconds: 300,
    kind: 'node',
    run: ['test/images/*.test.ts'],
    concurrency: 1,
  },
  {
    name: 'sanitize',
    about: 'native operators under AddressSanitizer and UndefinedBehaviorSanitizer',
    budgetSeconds: 360,
    kind: 'ctest',
    before: [['native/build.sh', '--sanitize']],
    run: ['native/build-sanitize'],
  },
  {
    name: 'smoke',
    about: '`up --smoke` answers and leaves nothing behind',
    budgetSeconds: 60,
    kind: 'command',
    run: ['npm', 'run', '-s', 'up', '--', '--smoke'],
  },
  {
    name: 'readme',
    about: 'the commands of the README do what it says',
    budgetSeconds: 90,
    kind: 'node',
    run: ['test/readme/*.test.ts'],
    concurrency: 1,
  },
  {
    name: 'long',
    about: 'longer contexts and conversations than fit in a normal run',
    budgetSeconds: 3600,
    kind: 'node',
    run: ['test/long/*.test.ts'],
    concurrency: 1,
  },
];

/** Named sets: what `npm test`, `npm run check`, `npm run test:long` and CI run. */
export const SETS: Record<string, string[]> = {
  default: ['types', 'architecture', 'kernels', 'unit', 'vectors', 'integration', 'e2e'],
  check: ['format', 'types', 'lint', 'generated', 'images', 'architecture'],
  // Those that take the whole machine first, then those that share it, the longest first.
  ci: [
    'format',
    'lint',
    'generated',
    'images',
    'sanitize',
    'routers',
    'long-units',
    'chart',
    'image',
    'readme',
    'smoke',
    'k8s',
    'release',
    'faults',
    'clusters',
    'chaos',
    'fuzz',
    'machines',
    'compat',
    'monitoring',
  ],
  long: ['long'],
};
