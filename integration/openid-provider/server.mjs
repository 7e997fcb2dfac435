// A real OpenID provider on a free loopback port, for tests: discovery, keys, tokens for clients (RFC 9068 or opaque),
// introspection (RFC 7662), revocation (RFC 7009). Its first argument names a file, the second where to listen instead:
//
//   {"issuer", "audience", "lifetime": seconds, "keys": [kid], "clients": [{"id", "secret", "claims"}]}
//
// and it writes `listening on <address>` once it answers. It believes x-forwarded-proto, as one does behind a proxy that
// ends TLS. `PUT /keys` with a list of key ids makes those its keys from then on, the first of them signs; an id that is
// new gets a new key. Tokens survive that.

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// Installed elsewhere: where this process was started.
const installed = createRequire(`${process.cwd()}/`);
const { Provider } = await import(pathToFileURL(installed.resolve('oidc-provider')));

const MAKERS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

const settings = JSON.parse(readFileSync(process.argv[2]));

// What the package's own adapter keeps is lost with each change of keys.
const kept = new Map();

class Kept {
  constructor(kind) {
    this.kind = kind;
  }

  async upsert(id, payload) {
    kept.set(`${this.kind} ${id}`, payload);
  }

  async find(id) {
    return kept.get(`${this.kind} ${id}`);
  }

  async destroy(id) {
    kept.delete(`${this.kind} ${id}`);
  }
}

const made = new Map();

// A key of each algorithm under one id, as `<id>-<algorithm>`.
function keysOf(id) {
  if (!made.has(id)) {
    made.set(id, Object.entries(MAKERS).map(([alg, make]) => (
      { ...make().privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${id}-${alg}` })));
  }
  return made.get(id);
}

const claimsOf = new Map(settings.clients.map(({ id, claims }) => [id, claims]));

// `urn:mlgate:opaque`, or `urn:mlgate:jwt:<algorithm>`
function resourceServer(resource) {
  const [, , format, alg] = resource.split(':');
  const server = { scope: 'models:read', audience: settings.audience, accessTokenTTL: settings.lifetime };
  return format === 'opaque'
    ? { ...server, accessTokenFormat: 'opaque' }
    : { ...server, accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
}

function provider(ids) {
  const server = new Provider(settings.issuer, {
    adapter: Kept,
    clients: settings.clients.map(({ id, secret }) => ({
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    enabledJWA: {
      idTokenSigningAlgValues: Object.keys(MAKERS),
    },
    extraTokenClaims: (_context, token) => claimsOf.get(token.clientId),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: { enabled: true, getResourceServerInfo: (_context, resource) => resourceServer(resource) },
      revocation: { enabled: true },
    },
    jwks: { keys: ids.flatMap(keysOf) },
    ttl: { ClientCredentials: settings.lifetime },
  });
  server.proxy = true;
  return server.callback();
}

let answer = provider(settings.keys);

const server = createServer(async (request, response) => {
  if (request.method === 'PUT' && request.url === '/keys') {
    let text = '';
    for await (const piece of request) text += piece;
    answer = provider(JSON.parse(text));
    response.writeHead(204).end();
    return;
  }
  answer(request, response);
});
const [host, port] = (process.argv[3] ?? '127.0.0.1:0').split(':');
server.listen(Number(port), host, () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
