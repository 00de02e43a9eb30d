// A client that somebody else wrote, with strict checks (oauth4webapi), goes through discovery, PAR, PKCE, authorization
// details, DPoP and private_key_jwt, signs a hash, and revokes. It talks with whoever started it in lines of JSON; who has the
// browser opens what it prints.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';
import * as oauth from 'oauth4webapi';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const hear = async () => JSON.parse((await lines.next()).value);

const own = await oauth.generateKeyPair('ES256');
const { kty, crv, x, y } = await crypto.subtle.exportKey('jwk', own.publicKey);
say({ key: { kty, crv, x, y, kid: 'k1', alg: 'ES256', use: 'sig' } });

const job = await hear();
// A development stack speaks HTTP on this machine.
const local = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(job.issuer);
const found = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...local });
const server = await oauth.processDiscoveryResponse(issuer, found);
assert(server.code_challenge_methods_supported.includes('S256'));
// Some clients look at the path of OpenID Connect first: the same server, with what its readers want beside.
const openid = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oidc', ...local }));
assert.equal(openid.token_endpoint, server.token_endpoint);
assert.deepEqual(openid.subject_types_supported, ['public']);
assert.deepEqual(openid.id_token_signing_alg_values_supported, []);
const client = { client_id: job.client_id };
const proof = oauth.PrivateKeyJwt({ key: own.privateKey, kid: 'k1' });
const bound = await oauth.generateKeyPair('ES256');
const DPoP = oauth.DPoP(client, bound);

async function authorize(wanted) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const parameters = {
    ...wanted,
    response_type: 'code',
    redirect_uri: job.redirect_uri,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
  };
  const sent = await oauth.pushedAuthorizationRequest(server, client, proof, parameters, { DPoP, ...local });
  const pushed = await oauth.processPushedAuthorizationResponse(server, client, sent);
  const target = new URL(server.authorization_endpoint);
  target.searchParams.set('client_id', client.client_id);
  target.searchParams.set('request_uri', pushed.request_uri);
  say({ open: target.href });
  const { callback } = await hear();
  const answer = oauth.validateAuthResponse(server, client, new URL(callback), state);
  const grant = await oauth.authorizationCodeGrantRequest(server, client, proof, answer, job.redirect_uri, verifier, { DPoP, ...local });
  return oauth.processAuthorizationCodeResponse(server, client, grant);
}

function csc(token, method, body, key = DPoP) {
  const headers = new Headers({ 'content-type': 'application/json' });
  const target = new URL(`${job.csc}/${method}`);
  return oauth.protectedResourceRequest(token.access_token, 'POST', target, headers, JSON.stringify(body), { DPoP: key, ...local });
}

/** The refusal that the library itself reads out of `WWW-Authenticate`. */
async function challenged(call) {
  try {
    await call;
  } catch (error) {
    assert(error instanceof oauth.WWWAuthenticateChallengeError, error);
    return error.cause.map((challenge) => challenge.parameters.error);
  }
  throw new Error('not refused');
}

const service = await authorize({ scope: 'service' });
assert.equal(service.token_type, 'dpop');
const listed = await (await csc(service, 'credentials/list', {})).json();
assert(listed.credentialIDs.includes(job.credential));

const details = [{ type: 'credential', credentialID: job.credential, numSignatures: 1, hashAlgorithmOID: job.hash_algorithm,
  documentDigests: [{ hash: job.hash, label: 'contract.pdf' }] }];
const granted = await authorize({ authorization_details: JSON.stringify(details) });
assert.equal(granted.authorization_details[0].credentialID, job.credential);
const body = { credentialID: job.credential, hashes: [job.hash], hashAlgorithmOID: job.hash_algorithm, signAlgo: job.sign_algorithm };
// Whoever has the token but not its key signs nothing.
const thief = oauth.DPoP(client, await oauth.generateKeyPair('ES256'));
assert.deepEqual(await challenged(csc(granted, 'signatures/signHash', body, thief)), ['invalid_dpop_proof']);
const signed = await (await csc(granted, 'signatures/signHash', body)).json();
assert.equal(signed.signatures.length, 1);
assert.deepEqual(await challenged(csc(granted, 'signatures/signHash', body)), ['invalid_token']);

const asked = await oauth.introspectionRequest(server, client, proof, service.access_token, local);
const known = await oauth.processIntrospectionResponse(server, client, asked);
assert.equal(known.active, true);
assert.equal(known.token_type, 'DPoP');
const revoked = await oauth.revocationRequest(server, client, proof, service.access_token, local);
// RFC 7009 has 200, which the library insists on; CSC has 204 (clause 8.5.3), and its clients insist on that.
assert.equal(revoked.status, 204);
await challenged(csc(service, 'credentials/list', {}));
say({ signature: signed.signatures[0] });
process.exit(0);
