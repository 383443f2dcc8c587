/** Starts many transfers, reports that they have begun, and waits to be terminated. */

import { parentPort } from 'node:worker_threads';

import { makeKv, makeRuntime, native } from './support.ts';

const pool = makeKv(makeRuntime());
const pages = Int32Array.from({ length: pool.numPages }, (_, i) => i);
const data = new Uint8Array(pool.numPages * pool.pageBytes);

for (let i = 0; i < 50; i++) {
  void pool.importPages(pages, [data]);
  void pool.exportPages(pages, 1);
  void native.crc32c([data]);
}
setInterval(() => undefined, 60_000);
parentPort?.postMessage('started');
