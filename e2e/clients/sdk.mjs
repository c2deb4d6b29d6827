// Gets a token as Microsoft's own libraries for Node do, from an Entra at
// ENTRA_URL, and prints it as JSON. Arguments: library, kind of credential.
import { readFileSync } from 'node:fs';
import { ClientAssertionCredential, ClientCertificateCredential, ClientSecretCredential } from '@azure/identity';
import { ConfidentialClientApplication } from '@azure/msal-node';

const [library, kind] = process.argv.slice(2);
const { ENTRA_URL, TENANT, CLIENT, SECRET, CERTIFICATE, KEY, THUMBPRINT, FEDERATED_FILE } = process.env;
const scope = 'https://graph.microsoft.com/.default';
const assertion = async () => readFileSync(FEDERATED_FILE, 'utf8');

async function identity() {
  const options = { authorityHost: ENTRA_URL, disableInstanceDiscovery: true, retryOptions: { maxRetries: 0 } };
  const credential = {
    secret: () => new ClientSecretCredential(TENANT, CLIENT, SECRET, options),
    certificate: () => new ClientCertificateCredential(TENANT, CLIENT, { certificatePath: CERTIFICATE }, options),
    federated: () => new ClientAssertionCredential(TENANT, CLIENT, assertion, options),
  }[kind]();
  return (await credential.getToken(scope)).token;
}

async function msal() {
  const app = new ConfidentialClientApplication({
    auth: {
      clientId: CLIENT,
      authority: `${ENTRA_URL}/${TENANT}`,
      knownAuthorities: [new URL(ENTRA_URL).host],
      ...{
        secret: { clientSecret: SECRET },
        certificate: { clientCertificate: { thumbprintSha256: THUMBPRINT, privateKey: readFileSync(KEY, 'utf8') } },
        federated: { clientAssertion: assertion },
      }[kind],
    },
  });
  return (await app.acquireTokenByClientCredential({ scopes: [scope] })).accessToken;
}

process.stdout.write(JSON.stringify({ token: await { identity, msal }[library]() }));
