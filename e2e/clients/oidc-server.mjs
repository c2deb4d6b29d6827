// node-oidc-provider, a certified authorization server, on loopback. Reads its
// settings as JSON from standard input and prints its origin once it listens.
// With a tenant it takes Entra's shape: that tenant's issuer, token endpoint
// and scopes, and assertions signed as Entra wants them.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const settings = JSON.parse(readFileSync(0, 'utf8'));
const server = createServer({ key: settings.key, cert: settings.cert });

server.listen(0, '127.0.0.1', () => {
  const origin = `https://127.0.0.1:${server.address().port}`;
  const issuer = settings.tenant ? `${origin}/${settings.tenant}/v2.0` : origin;
  const provider = new Provider(issuer, {
    clients: settings.clients.map((c) => ({
      client_id: c.id,
      ...(c.jwks ? { jwks: c.jwks, token_endpoint_auth_signing_alg: c.alg } : { client_secret: 'replaced below' }),
      token_endpoint_auth_method: c.method,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      ...(c.scope && { scope: c.scope }),
    })),
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    enabledJWA: { clientAuthSigningAlgValues: settings.algs ?? ['RS256', 'PS256', 'ES256', 'Ed25519', 'EdDSA'] },
    scopes: ['openid', 'reports', 'audit', 'orders.read', 'orders.write', 'https://graph.microsoft.com/.default'],
    ...(settings.tenant && { routes: { token: `/${settings.tenant}/oauth2/v2.0/token`, jwks: '/jwks', introspection: '/token/introspection' } }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'orders.read orders.write',
          audience: resource,
          accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    ttl: { ClientCredentials: 600 },
  });
  // Registration takes the characters of RFC 6749 alone; other servers let
  // operators choose any secret. How it is read off the wire stays the same.
  const find = provider.Client.find.bind(provider.Client);
  provider.Client.find = async (id) => {
    const client = await find(id);
    const known = settings.clients.find((c) => c.id === id);
    if (client && known) client.clientSecret = known.secret;
    return client;
  };
  server.on('request', provider.callback());
  process.stdout.write(`${origin}\n`);
});
