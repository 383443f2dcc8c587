import { connect } from 'node:net';

/** Sends one command to a Redis on this machine and returns the first line of its answer. Throws for an error. */
export async function redisCommand(port: number, command: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  try {
    socket.write(`${command}\r\n`);
    for await (const chunk of socket) {
      text += String(chunk);
      if (text.includes('\r\n')) break;
    }
  } finally {
    socket.destroy();
  }
  const [line = ''] = text.split('\r\n');
  if (line.startsWith('-')) throw new Error(`${command}: ${line.slice(1)}`);
  return line;
}
