/**
 * The preStop hook of a pod: asks the process of this pod to drain and waits until it has.
 *
 *   guildhall-drain [host:port of the admin server]
 *
 * The port comes from the argument, else from GUILDHALL_ADMIN_LISTEN, else it is 9090. Exit code 0 when the drain is over, 1
 * with the reason on stderr when it could not be asked for. How long a drain may take is the business of the process
 * (--drain-ms) and of the pod (terminationGracePeriodSeconds); nothing is limited here. Only Node's own modules are
 * imported, because a hook that takes a second to start takes it from the drain.
 */
import { request } from 'node:http';

const DEFAULT_PORT = '9090';

function portOf(address: string | undefined): string {
  return /:(\d{1,5})$/.exec(address ?? '')?.[1] ?? DEFAULT_PORT;
}

function end(exitCode: number, reason: string): void {
  if (reason !== '') process.stderr.write(`guildhall-drain: ${reason}\n`);
  process.exitCode = exitCode;
}

const port = portOf(process.argv[2] ?? process.env['GUILDHALL_ADMIN_LISTEN']);
request({ host: '127.0.0.1', port, path: '/drain', method: 'POST', agent: false }, (response) => {
  let body = '';
  response.setEncoding('utf8').on('data', (text: string) => (body += text));
  response.on('end', () => {
    if (response.statusCode === 200) end(0, '');
    else end(1, `the admin server answered ${response.statusCode}: ${body}`);
  });
})
  .on('error', (err) => end(1, `no answer from the admin server at 127.0.0.1:${port}: ${err.message}`))
  .end();
