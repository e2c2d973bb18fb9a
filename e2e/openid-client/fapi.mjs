// FAPI 2.0, security profile and message signing, by openid-client and, to the letter, by oauth4webapi.
import * as client from 'openid-client'
import * as oauth from 'oauth4webapi'
import assert from 'node:assert/strict'
import { ISSUER, REDIRECT_URI, visit, finish } from './dialogue.mjs'
import { apps, discover, enter, keyOf } from './story.mjs'

const people = {}
const issuer = new URL(ISSUER)
const insecure = { [oauth.allowInsecureRequests]: true }
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, insecure))

for (const [app, alg, signs] of [['fapi PS256', 'PS256', false], ['fapi ES256', 'ES256', false], ['fapi EdDSA', 'EdDSA', false], ['signing PS256', 'PS256', true], ['signing ES256', 'ES256', true]]) {
  const key = await keyOf(alg)
  const pair = await client.randomDPoPKeyPair('ES256')

  // openid-client
  const config = await discover(app, client.PrivateKeyJwt(key), ...(signs ? [client.useJwtResponseMode] : []))
  const bound = { DPoP: client.getDPoPHandle(config, pair) }
  const build = async (config, parameters) => client.buildAuthorizationUrlWithPAR(config,
    signs ? (await client.buildAuthorizationUrlWithJAR(config, parameters, key)).searchParams : parameters, bound)
  const tokens = await enter(config, { build, bound })
  assert.equal(tokens.token_type, 'dpop')
  people[app] = tokens.claims().sub
  await client.fetchUserInfo(config, tokens.access_token, people[app], bound)
  await client.refreshTokenGrant(config, tokens.refresh_token, undefined, bound)
  assert.equal((await client.tokenIntrospection(config, tokens.access_token)).active, true)

  // What the profile forbids: a request that is not pushed, one without PKCE or redirect URI, one that is not signed, tokens without a key.
  const plain = { redirect_uri: REDIRECT_URI, scope: 'openid', code_challenge: await client.calculatePKCECodeChallenge('x'.repeat(43)), code_challenge_method: 'S256' }
  const answer = await visit(client.buildAuthorizationUrl(config, plain), { page: true })
  assert(answer.status.startsWith('4') || answer.url.searchParams.has('error') || answer.url.searchParams.has('response'), `a request that is not pushed: ${answer.url}`)
  assert(!answer.url.searchParams.has('code'))
  const push = async (parameters) => client.buildAuthorizationUrlWithPAR(config,
    signs ? (await client.buildAuthorizationUrlWithJAR(config, parameters, key)).searchParams : parameters, bound)
  const { code_challenge, code_challenge_method, ...noPKCE } = plain
  await assert.rejects(push(noPKCE), { error: 'invalid_request' }, 'no PKCE')
  const { redirect_uri, ...noRedirect } = plain
  await assert.rejects(push(noRedirect), { error: 'invalid_request' }, 'no redirect URI')
  if (signs) {
    await assert.rejects(client.buildAuthorizationUrlWithPAR(config, plain, bound), { error: 'invalid_request' }, 'not signed')
  }
  await assert.rejects(enter(config, { build, bound: undefined }), 'tokens without a key')

  // oauth4webapi: each answer as it came
  const me = { client_id: apps[app].id }
  const DPoP = oauth.DPoP(me, pair)
  const again = (f) => f().catch((e) => {
    if (!oauth.isDPoPNonceError(e)) throw e
    return f()
  })
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const nonce = oauth.generateRandomNonce()
  const parameters = {
    client_id: me.client_id, redirect_uri: REDIRECT_URI, response_type: 'code', scope: 'openid offline_access', state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...(signs && { response_mode: 'jwt' }),
  }
  const pushed = await again(async () => oauth.processPushedAuthorizationResponse(as, me, await oauth.pushedAuthorizationRequest(as, me, oauth.PrivateKeyJwt(key),
    signs ? { client_id: me.client_id, request: await oauth.issueRequestObject(as, me, parameters, key) } : parameters, { DPoP, ...insecure })))
  const address = new URL(as.authorization_endpoint)
  address.searchParams.set('client_id', me.client_id)
  address.searchParams.set('request_uri', pushed.request_uri)
  const came = await visit(address)
  const callback = signs ? await oauth.validateJwtAuthResponse(as, me, came, state, insecure) : oauth.validateAuthResponse(as, me, came, state)
  // Mix-up (RFC 9207): the same answer from elsewhere is refused by its iss.
  if (!signs) {
    came.searchParams.set('iss', 'https://evil.example.test')
    assert.throws(() => oauth.validateAuthResponse(as, me, came, state))
  }
  let response
  const exchanged = await again(async () => {
    response = await oauth.authorizationCodeGrantRequest(as, me, oauth.PrivateKeyJwt(key), callback, REDIRECT_URI, verifier, { DPoP, ...insecure })
    return oauth.processAuthorizationCodeResponse(as, me, response, { expectedNonce: nonce, requireIdToken: true })
  })
  await oauth.validateApplicationLevelSignature(as, response, insecure)
  people[`${app}, oauth4webapi`] = oauth.getValidatedIdTokenClaims(exchanged).sub
  await again(async () => oauth.processUserInfoResponse(as, me, people[app], await oauth.userInfoRequest(as, me, exchanged.access_token, { DPoP, ...insecure })))

  // A token that was stolen without its key, and one with another key.
  const thief = oauth.DPoP(me, await oauth.generateKeyPair('ES256'))
  for (const stolen of [{}, { DPoP: thief }]) {
    const taken = () => oauth.userInfoRequest(as, me, exchanged.access_token, { ...stolen, ...insecure })
    await assert.rejects(again(async () => oauth.processUserInfoResponse(as, me, people[app], await taken())))
  }
}
finish({ people })
