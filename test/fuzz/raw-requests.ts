import type { Random } from './random.ts';

const HOST = 'host: x\r\n';
const JSON_TYPE = 'content-type: application/json\r\n';
const POST = `POST /v1/chat/completions HTTP/1.1\r\n${HOST}${JSON_TYPE}`;

/** Bytes that no HTTP library would send. */
const RAW: readonly string[] = [
  '\r\n\r\n',
  '\0\0\0\0',
  '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  'GET\r\n\r\n',
  'GET / HTTP/9.9\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  `NONSENSE /v1/models HTTP/1.1\r\n${HOST}\r\n`,
  'GET /v1/models HTTP/1.1\r\n\r\n',
  `GET /v1/models HTTP/1.0\r\n\r\n`,
  `GET /v1/models HTTP/1.1\n${HOST}\n`,
  `GET /v1/models HTTP/1.1\r\n${HOST}x: a\0b\r\n\r\n`,
  `GET /v1/models HTTP/1.1\r\n${HOST}x y: z\r\n\r\n`,
  `GET /v1/models HTTP/1.1\r\n${HOST}x: a\r\n b\r\n\r\n`,
  `GET /v1/models HTTP/1.1\r\n${HOST}x: ${'y'.repeat(20_000)}\r\n\r\n`,
  `GET /v1/models HTTP/1.1\r\n${HOST}${Array.from({ length: 300 }, (_, i) => `x${i}: y\r\n`).join('')}\r\n`,
  `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${HOST}\r\n`,
  `GET /v1/models/\xff\xfe HTTP/1.1\r\n${HOST}\r\n`,
  `GET /v1/models\r\nx: y HTTP/1.1\r\n${HOST}\r\n`,
  `GET http://other/v1/models HTTP/1.1\r\n${HOST}\r\n`,
  `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`,
  `GET /version HTTP/1.1\r\n${HOST}\r\nGET /version HTTP/1.1\r\n${HOST}\r\n`,
  `GET /version HTTP/1.1\r\n${HOST}connection: upgrade\r\nupgrade: h2c\r\n\r\n`,
  `${POST}content-length: -1\r\n\r\n{}`,
  `${POST}content-length: 1e3\r\n\r\n{}`,
  `${POST}content-length: 99999999999999999999\r\n\r\n{}`,
  `${POST}content-length: 100\r\n\r\n{"model":`,
  `${POST}content-length: 2\r\ncontent-length: 3\r\n\r\n{}`,
  `${POST}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
  `${POST}transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`,
  `${POST}transfer-encoding: chunked\r\n\r\n5\r\n{}`,
  `${POST}transfer-encoding: chunked\r\n\r\n2;${'x'.repeat(9000)}\r\n{}\r\n0\r\n\r\n`,
  `${POST}transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-trailer: y\r\n\r\n`,
  `${POST}transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
  `${POST}expect: nonsense\r\ncontent-length: 2\r\n\r\n{}`,
  `${POST}expect: 100-continue\r\ncontent-length: 2\r\n\r\n{}`,
  `POST /v1/files HTTP/1.1\r\n${HOST}content-type: multipart/form-data; boundary=x\r\ncontent-length: 500\r\n\r\n--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf`,
];

/** What is written to a connection of its own, which is then ended from this side. */
export function rawRequest(random: Random): Buffer {
  const bytes = Buffer.from(random.pick(RAW), 'latin1');
  if (random.chance(0.7) || bytes.length === 0) return bytes;
  // One byte is another one.
  bytes[random.below(bytes.length)] = random.below(256);
  return bytes;
}
