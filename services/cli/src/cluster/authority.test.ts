import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { isGuildhallError } from '@guildhall/common';
import { Authority, certificateHash, makeRequest } from './authority.ts';

const NOW_MS = Date.parse('2026-11-27T12:00:00Z');
const isInvalid = (error: unknown): boolean => isGuildhallError(error) && error.code === 'invalid_value';

async function make(): Promise<Authority> {
  const { key, pem } = await Authority.create('test', NOW_MS);
  return Authority.load(pem, key);
}

function leafOf(chain: string): X509Certificate {
  return new X509Certificate(chain.slice(0, chain.indexOf('-----END CERTIFICATE-----') + 25));
}

test('a certificate of the authority is for its name and addresses, and for nothing else', async () => {
  const authority = await make();
  const { key, pem } = await makeRequest('what the requester calls itself');
  const options = { name: 'expert-1', addresses: ['10.0.0.7', 'worker.example', 'fd00::7'], days: 30, nowMs: NOW_MS };
  const issued = await authority.sign(pem, options);
  const leaf = leafOf(issued.chain);
  const root = new X509Certificate(authority.certificate);
  assert.ok(leaf.verify(root.publicKey));
  assert.ok(leaf.checkIssued(root));
  assert.equal(leaf.subject, 'CN=expert-1');
  assert.equal(leaf.ca, false);
  assert.equal(root.ca, true);
  for (const address of ['10.0.0.7', 'fd00::7']) assert.equal(leaf.checkIP(address), address);
  assert.equal(leaf.checkHost('worker.example'), 'worker.example');
  assert.equal(leaf.checkIP('10.0.0.8'), undefined);
  assert.equal(leaf.serialNumber.toLowerCase(), issued.serial);
  assert.equal(Date.parse(leaf.validTo), issued.expiresAtMs);
  assert.equal(issued.expiresAtMs, NOW_MS + 30 * 86_400_000);
  // The requester's key, which the authority has never seen.
  assert.ok(leaf.checkPrivateKey(createPrivateKey(key)));
});

test('the hash of an authority is that of its certificate', async () => {
  const [one, other] = [await make(), await make()];
  assert.equal(one.hash, certificateHash(new X509Certificate(one.certificate).raw));
  assert.match(one.hash, /^[A-Za-z0-9_-]{43}$/);
  assert.notEqual(one.hash, other.hash);
});

test('a request that was tampered with, or is none, is refused', async () => {
  const authority = await make();
  const options = { name: 'expert-1', addresses: ['10.0.0.7'], days: 30, nowMs: NOW_MS };
  const { pem } = await makeRequest('expert-1');
  const body = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  // The last byte belongs to the signature, the one at 24 to the name.
  for (const at of [body.length - 1, 24]) {
    const changed = Buffer.from(body);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    const text = `-----BEGIN CERTIFICATE REQUEST-----\n${changed.toString('base64')}\n-----END CERTIFICATE REQUEST-----`;
    await assert.rejects(authority.sign(text, options), isInvalid, `byte ${at}`);
  }
  await assert.rejects(authority.sign('nonsense', options), isInvalid);
  await assert.rejects(authority.sign(authority.certificate, options), isInvalid);
});

test('certificate and key of different authorities are an error', async () => {
  const [one, other] = [await Authority.create('one', NOW_MS), await Authority.create('other', NOW_MS)];
  assert.throws(
    () => Authority.load(one.pem, other.key),
    (error) => isGuildhallError(error) && error.code === 'config_invalid',
  );
});
