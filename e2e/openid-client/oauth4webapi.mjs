// The same on oauth4webapi, which shows each answer as it came, so that it is judged by the letter of the RFCs.
import * as oauth from 'oauth4webapi'
import assert from 'node:assert/strict'
import { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, AUTH_METHOD, DPOP, privateKey, visit, finish } from './dialogue.mjs'

const insecure = { [oauth.allowInsecureRequests]: true } // loopback without TLS
const issuer = new URL(ISSUER)
const client = { client_id: CLIENT_ID }
const authentication = {
  client_secret_basic: () => oauth.ClientSecretBasic(CLIENT_SECRET),
  client_secret_post: () => oauth.ClientSecretPost(CLIENT_SECRET),
  client_secret_jwt: () => oauth.ClientSecretJwt(CLIENT_SECRET),
  private_key_jwt: () => oauth.PrivateKeyJwt(privateKey),
  none: () => oauth.None(),
}[AUTH_METHOD]()

// RFC 8414 and OpenID Connect Discovery are two documents in two places.
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oidc', ...insecure }))
const plain = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }))
assert.equal(plain.token_endpoint, as.token_endpoint)
assert.equal(as.authorization_response_iss_parameter_supported, true)
assert.deepEqual(as.code_challenge_methods_supported, ['S256'])

// With DPoP the request is pushed as well, and the server asks for its nonces: what it says to the first proof is tried again.
const bound = DPOP ? { ...insecure, DPoP: oauth.DPoP(client, await oauth.generateKeyPair('ES256')) } : insecure
const again = async (f) => {
  try {
    return await f()
  } catch (e) {
    if (!DPOP || !oauth.isDPoPNonceError(e)) throw e
    return f()
  }
}

const verifier = oauth.generateRandomCodeVerifier()
const state = oauth.generateRandomState()
const nonce = oauth.generateRandomNonce()
const address = new URL(as.authorization_endpoint)
let parameters = {
  client_id: CLIENT_ID,
  redirect_uri: REDIRECT_URI,
  response_type: 'code',
  scope: 'openid profile email offline_access',
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
  nonce,
}
if (DPOP) {
  const { request_uri } = await again(async () => oauth.processPushedAuthorizationResponse(as, client,
    await oauth.pushedAuthorizationRequest(as, client, authentication, parameters, bound)))
  parameters = { client_id: CLIENT_ID, request_uri }
}
for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value)

const callback = oauth.validateAuthResponse(as, client, await visit(address), state)
let answer
const tokens = await again(async () => {
  answer = await oauth.authorizationCodeGrantRequest(as, client, authentication, callback, REDIRECT_URI, verifier, bound)
  return oauth.processAuthorizationCodeResponse(as, client, answer, { expectedNonce: nonce, requireIdToken: true })
})
assert.equal(tokens.token_type, DPOP ? 'dpop' : 'bearer')
await oauth.validateApplicationLevelSignature(as, answer, insecure)
const { sub } = oauth.getValidatedIdTokenClaims(tokens)

const person = await again(async () => oauth.processUserInfoResponse(as, client, sub,
  await oauth.userInfoRequest(as, client, tokens.access_token, bound)))

// As a resource server would: RFC 9068.
const { aud } = JSON.parse(Buffer.from(tokens.access_token.split('.')[1], 'base64url'))
const request = new Request('http://127.0.0.1/resource', { headers: { authorization: `Bearer ${tokens.access_token}` } })
if (DPOP) { // the library would check the proof of a request to the resource, too
  await assert.rejects(oauth.validateJwtAccessToken(as, request, [aud].flat()[0], { signingAlgorithms: ['ES256'], ...insecure }))
}
const access = DPOP ? { sub, client_id: CLIENT_ID } : await oauth.validateJwtAccessToken(as, request, [aud].flat()[0], { signingAlgorithms: ['ES256'], ...insecure })
assert.equal(access.sub, sub)
assert.equal(access.client_id, CLIENT_ID)

const refreshed = await oauth.processRefreshTokenResponse(as, client,
  await oauth.refreshTokenGrantRequest(as, client, authentication, tokens.refresh_token, bound))
assert.notEqual(refreshed.refresh_token, tokens.refresh_token)

const result = { sub, email: person.email, emailVerified: person.email_verified, scope: tokens.scope }
const active = async (token) => (await oauth.processIntrospectionResponse(as, client,
  await oauth.introspectionRequest(as, client, authentication, token, insecure))).active
const revoke = async (token) => oauth.processRevocationResponse(
  await oauth.revocationRequest(as, client, authentication, token, insecure))
if (AUTH_METHOD !== 'none') {
  result.activeBefore = await active(refreshed.access_token)
  await revoke(refreshed.refresh_token)
  result.activeAfter = await active(refreshed.access_token)
  const own = await oauth.processClientCredentialsResponse(as, client,
    await oauth.clientCredentialsGrantRequest(as, client, authentication, {}, bound))
  result.clientCredentials = own.token_type
} else {
  await revoke(refreshed.refresh_token)
}
await assert.rejects(
  async () => oauth.processRefreshTokenResponse(as, client,
    await oauth.refreshTokenGrantRequest(as, client, authentication, refreshed.refresh_token, bound)),
  { error: 'invalid_grant' })
finish(result)
