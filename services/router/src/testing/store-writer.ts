import { crc32cReference as crc32c } from './crc32c.ts';
import { openStore, testBlob } from './store-rig.ts';

/*
 * Writes, deletes and holds in the folder given, for ever: to be killed at any moment. Prints a line for each blob that
 * is on disk for sure.
 */
const [, , folder = '', first = '0'] = process.argv;
const { store } = await openStore(folder, { hostBytes: 0, diskBytes: 4 << 20 });
for (let i = Number(first); ; i++) {
  const blob = testBlob(`${i}`, 1000 + ((i * 7919) % 60_000), 1000);
  const held = new Uint8Array(20_000).fill(i & 0xff);
  store.put(blob);
  void store.hold('sequence', held, crc32c(held));
  if (i % 3 === 0) store.delete('page', testBlob(`${i - 5}`, 1).name);
  await store.idle();
  if (store.where('page', blob.name) === 'disk') process.stdout.write(`${i}\n`);
}
