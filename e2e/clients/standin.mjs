// An app of Microsoft's libraries for Node that holds a credential object and no
// secret: gets a token as they do, and reads users from Graph with it. Prints
// both as JSON. Arguments: what gets the token. The environment names the proxy.
import { ClientSecretCredential, DefaultAzureCredential, ManagedIdentityCredential } from '@azure/identity';
import { ConfidentialClientApplication } from '@azure/msal-node';
import { Client } from '@microsoft/microsoft-graph-client';
import { EnvHttpProxyAgent, setGlobalDispatcher } from 'undici';

// Node obeys the environment by itself from version 24 on, with
// NODE_USE_ENV_PROXY=1; this does the same for the fetch of those before.
setGlobalDispatcher(new EnvHttpProxyAgent());

const { TENANT } = process.env;
const scope = 'https://graph.microsoft.com/.default';
const client = '99999999-dddd-4444-8888-aaaaaaaaaaaa';
const options = { retryOptions: { maxRetries: 0 } };

const kinds = {
  secret: async () => (await new ClientSecretCredential(TENANT, client, 'dummy', options).getToken(scope)).token,
  managed: async () => (await new ManagedIdentityCredential(options).getToken(scope)).token,
  named: async () => (await new ManagedIdentityCredential({ clientId: client, ...options }).getToken(scope)).token,
  default: async () => (await new DefaultAzureCredential(options).getToken(scope)).token,
  msal: async () => {
    const app = new ConfidentialClientApplication({
      auth: { clientId: client, authority: `https://login.microsoftonline.com/${TENANT}`, clientSecret: 'dummy' },
    });
    return (await app.acquireTokenByClientCredential({ scopes: [scope] })).accessToken;
  },
};

const token = await kinds[process.argv[2]]();
const graph = Client.init({ defaultVersion: 'v1.0', authProvider: (done) => done(null, token) });
const users = await graph.api('/users').get();
process.stdout.write(JSON.stringify({ token, users: users.value.length }));
