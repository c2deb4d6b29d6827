// One GET by Node's own https module through a CONNECT proxy. Argument: the URL.
// HTTP_PROXY_URL names the proxy. The output is the status and the answer's body.
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';

const target = new URL(process.argv[2]);
const via = new URL(process.env.HTTP_PROXY_URL);
const authority = `${target.hostname}:${target.port || 443}`;

http.request({ host: via.hostname, port: via.port, method: 'CONNECT', path: authority, headers: { host: authority } })
  .on('connect', (answer, socket) => {
    if (answer.statusCode !== 200) throw new Error(`CONNECT: ${answer.statusCode}`);
    const servername = net.isIP(target.hostname) ? '' : target.hostname; // no address is a name (RFC 6066 section 3)
    https.get({ host: target.hostname, path: target.pathname, socket, servername, agent: false }, (resp) => {
      process.stdout.write(`${resp.statusCode}\n`);
      resp.pipe(process.stdout);
    });
  })
  .end();
