// One call by a Node client. Arguments: client, method, URL, and for a POST
// the file of the body. HTTP_PROXY_URL names a proxy for plain http. The first
// line of the output is the status, what follows is the answer's body.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { Client } from '@microsoft/microsoft-graph-client';
import axios from 'axios';
import { EnvHttpProxyAgent, ProxyAgent, fetch as undiciFetch } from 'undici';

const [client, method, url, file] = process.argv.slice(2);
const body = file ? readFileSync(file) : undefined;
const type = { 'content-type': 'application/octet-stream' };
const proxy = process.env.HTTP_PROXY_URL;

function print(status, text) {
  process.stdout.write(`${status}\n${text}`);
}

async function fetched(dispatcher) {
  const resp = await undiciFetch(url, { method, body, headers: body ? type : {}, dispatcher });
  print(resp.status, await resp.text());
}

const clients = {
  // Node's own fetch knows no proxy, so it goes by the reverse door alone.
  async fetch() {
    if (proxy) return fetched(new ProxyAgent({ uri: proxy, proxyTunnel: false }));
    const resp = await fetch(url, { method, body, headers: body ? type : {} });
    print(resp.status, await resp.text());
  },
  async tunnel() {
    await fetched(new EnvHttpProxyAgent());
  },
  http() {
    const target = new URL(url);
    const via = proxy ? new URL(proxy) : target;
    return new Promise((resolve, reject) => {
      const req = http.request({
        method, host: via.hostname, port: via.port,
        path: proxy ? target.href : target.pathname + target.search,
        headers: { host: target.host, ...(body && { ...type, 'content-length': body.length }) },
      }, (resp) => {
        const parts = [];
        resp.on('data', (b) => parts.push(b));
        resp.on('error', reject);
        resp.on('end', () => resolve(print(resp.statusCode, Buffer.concat(parts))));
      });
      req.on('error', reject);
      req.end(body);
    });
  },
  async axios() {
    const via = proxy && new URL(proxy);
    const resp = await axios.request({
      method, url, data: body, headers: body ? type : {}, responseType: 'text',
      transformResponse: (x) => x, validateStatus: () => true, maxBodyLength: Infinity,
      proxy: via ? { protocol: 'http', host: via.hostname, port: Number(via.port) } : false,
    });
    print(resp.status, resp.data);
  },
  // The Graph SDK insists on a token of its own; it gets a worthless one.
  async graph() {
    const u = new URL(url);
    const at = url.indexOf('/v1.0/');
    const sdk = Client.init({
      baseUrl: url.slice(0, at), defaultVersion: 'v1.0', customHosts: new Set([u.hostname]),
      authProvider: (done) => done(null, 'a-token-of-the-app-itself'),
    });
    const req = sdk.api(url.slice(at + '/v1.0'.length));
    const doc = body ? await req.headers(type).post(body) : await req.get();
    print(200, JSON.stringify(doc));
  },
};

await clients[client]();
