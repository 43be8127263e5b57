// A real identity provider (oidc-provider) on a free port, whose keys change when the test says so.
//
//   node idp.mjs DIRECTORY    the directory that holds node_modules; prints the port
//
//   GET /test/keys/old,new    publishes these keys; the first one signs
//   GET /test/count           how often the keys were fetched
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(`${process.argv[2]}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const key = (kid) => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid, alg: 'RS256', use: 'sig',
});
const keys = { old: key('old'), new: key('new') };
let fetched = 0;
let answer;

const server = createServer((request, response) => {
  if (request.url.startsWith('/test/keys/')) {
    answer = provider(request.url.slice('/test/keys/'.length).split(','));
    response.end('done');
  } else if (request.url === '/test/count') {
    response.end(String(fetched));
  } else {
    if (request.url === '/jwks') fetched += 1;
    answer(request, response);
  }
});

function provider(names) {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const made = new Provider(issuer, {
    jwks: { keys: names.map((name) => keys[name]) },
    clients: [{
      client_id: 'robot', client_secret: 'a-secret-of-the-robot', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [],
    }, {
      client_id: 'gateway', client_secret: 'a-secret-of-the-gateway', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [],
    }],
    scopes: ['orders:read'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      // With `resource` the token is a JWT for it, without it is one that only the provider can read.
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'orders:read', audience: 'orders', accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
  return made.callback();
}

server.listen(0, '127.0.0.1', () => {
  answer = provider(['old']);
  console.log(server.address().port);
});
