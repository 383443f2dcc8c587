/**
 * A node:test reporter that writes only the counts, as one JSON line. Files and suites are containers, not tests.
 */
interface TestEvent {
  type: string;
  data: { name: string; nesting: number; file?: string; details?: { type?: string }; skip?: unknown; todo?: unknown };
}

export default async function* counts(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const container = data.details?.type === 'suite' || (data.nesting === 0 && data.name === data.file);
    // A file that fails as a whole (it threw, or timed out) counts as one failure.
    if (container && type === 'test:pass') continue;
    if (data.skip !== undefined) total.skipped++;
    else if (type === 'test:pass') total.passed++;
    else total.failed++;
  }
  yield `${JSON.stringify(total)}\n`;
}
