// Asks the provider beside it for its keys and for a token of a client, and prints both: `{"jwks", "token"}`. Arguments: where it
// listens, the client's id and secret, an algorithm.

const [place, id, secret, algorithm] = process.argv.slice(2);
const headers = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'idp.example' };

async function ask(path, options = {}) {
  const answer = await fetch(`http://${place}${path}`, { ...options, headers: { ...headers, ...options.headers } });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// It may just have been started.
async function first(left) {
  try {
    return await ask('/jwks');
  } catch (error) {
    if (left === 0) throw error;
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    return first(left - 1);
  }
}

const jwks = await first(120);
const { access_token: token } = await ask('/token', {
  method: 'POST',
  headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
  body: new URLSearchParams({
    grant_type: 'client_credentials',
    scope: 'models:read',
    resource: `urn:mlgate:jwt:${algorithm}`,
  }),
});
console.log(JSON.stringify({ jwks, token }));
