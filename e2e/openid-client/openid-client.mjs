// Signs a person in through openid-client and uses every endpoint it can reach with what it got.
import * as client from 'openid-client'
import assert from 'node:assert/strict'
import { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, POST_LOGOUT_REDIRECT_URI, AUTH_METHOD, DPOP, privateKey, visit, finish } from './dialogue.mjs'

const authentication = {
  client_secret_basic: () => client.ClientSecretBasic(CLIENT_SECRET),
  client_secret_post: () => client.ClientSecretPost(CLIENT_SECRET),
  client_secret_jwt: () => client.ClientSecretJwt(CLIENT_SECRET),
  private_key_jwt: () => client.PrivateKeyJwt(privateKey),
  none: () => client.None(),
}[AUTH_METHOD]()

// The test runs on loopback without TLS. Signatures are checked although TLS would excuse it.
const config = await client.discovery(new URL(ISSUER), CLIENT_ID, {}, authentication, {
  execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
})

const pkceCodeVerifier = client.randomPKCECodeVerifier()
const expectedState = client.randomState()
const expectedNonce = client.randomNonce()
// With DPoP the request is pushed as well, and the server asks for its nonces.
const bound = DPOP && { DPoP: client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) }
const parameters = {
  redirect_uri: REDIRECT_URI,
  scope: 'openid profile email offline_access',
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
  code_challenge_method: 'S256',
  state: expectedState,
  nonce: expectedNonce,
  max_age: '3600',
}
const callback = await visit(bound ? await client.buildAuthorizationUrlWithPAR(config, parameters, bound) : client.buildAuthorizationUrl(config, parameters))

const tokens = await client.authorizationCodeGrant(config, callback, {
  pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true, maxAge: 3600,
}, undefined, bound)
assert.equal(tokens.token_type, bound ? 'dpop' : 'bearer')
const { sub } = tokens.claims()
const person = await client.fetchUserInfo(config, tokens.access_token, sub, bound)
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, bound)
assert.notEqual(refreshed.refresh_token, tokens.refresh_token, 'the refresh token is rotated')
assert.equal(refreshed.claims().sub, sub)

const result = { sub, email: person.email, emailVerified: person.email_verified, scope: tokens.scope }
if (AUTH_METHOD !== 'none') {
  result.activeBefore = (await client.tokenIntrospection(config, refreshed.access_token)).active
  await client.tokenRevocation(config, refreshed.refresh_token)
  result.activeAfter = (await client.tokenIntrospection(config, refreshed.access_token)).active
  const own = await client.clientCredentialsGrant(config, undefined, bound)
  assert.equal(own.refresh_token, undefined, 'client credentials bring no refresh token')
  result.clientCredentials = own.token_type
} else {
  await client.tokenRevocation(config, refreshed.refresh_token)
}
await assert.rejects(client.refreshTokenGrant(config, refreshed.refresh_token, undefined, bound), { error: 'invalid_grant' })

// Signed out already in this browser: the server sends the person straight back.
const leaving = client.randomState()
const left = await visit(client.buildEndSessionUrl(config, {
  post_logout_redirect_uri: POST_LOGOUT_REDIRECT_URI, id_token_hint: tokens.id_token, state: leaving,
}))
assert.equal(left.href, `${POST_LOGOUT_REDIRECT_URI}?state=${leaving}`)
finish(result)
