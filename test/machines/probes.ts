import type { Machine } from '../harness/namespaces.ts';

/** How somebody tries to talk to a port. */
export interface Attempt {
  host: string;
  port: number;
  /** PEM files; without them no certificate is shown. */
  certificate?: { cert: string; key: string };
  /** False for plain text. */
  tls: boolean;
  /** What is sent first. */
  say: string;
}

/** Beginning of an HTTP/2 connection with empty settings. */
export const HTTP2_PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u0000\u0000\u0000\u0004\u0000\u0000\u0000\u0000\u0000';

/** What the other side answers, as latin-1 text, within TLS if there is any. Empty when it hangs up. */
export async function talk(machine: Machine, attempt: Attempt): Promise<string> {
  const source = `
    import { readFileSync } from 'node:fs';
    import { connect } from 'node:net';
    import { connect as connectTls } from 'node:tls';
    const { host, port, certificate, tls, say } = JSON.parse(process.env.ATTEMPT);
    const pair = certificate === undefined
      ? {}
      : { cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) };
    const socket = tls
      ? connectTls({ host, port, rejectUnauthorized: false, ...pair })
      : connect({ host, port });
    let answer = '';
    let connected = false;
    const done = () => {
      socket.destroy();
      console.log(JSON.stringify({ connected, answer }));
    };
    socket.on('connect', () => (connected = true));
    socket.on('data', (data) => {
      answer += data.toString('latin1');
      // Long enough for a first frame or line.
      if (answer.length >= 5) done();
    });
    socket.on('error', () => undefined);
    socket.once('close', () => { if (answer.length < 5) done(); });
    socket.setTimeout(20000, () => socket.destroy());
    socket.write(Buffer.from(say, 'latin1'));
  `;
  const { connected, answer } = (await machine.script(source, { ATTEMPT: JSON.stringify(attempt) })) as {
    connected: boolean;
    answer: string;
  };
  if (!connected) throw new Error(`nothing listens at ${attempt.host}:${attempt.port}`);
  return answer;
}
