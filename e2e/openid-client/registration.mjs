// Apps that register themselves (RFC 7591), look after their registration (RFC 7592), and sign somebody in with it.
import * as client from 'openid-client'
import * as oauth from 'oauth4webapi'
import assert from 'node:assert/strict'
import { ISSUER, REDIRECT_URI, visit, finish } from './dialogue.mjs'
import { enter, keyOf, loopback } from './story.mjs'

const people = {}
const register = (metadata, authentication) => client.dynamicClientRegistration(new URL(ISSUER),
  { client_name: 'Newcomer', redirect_uris: [REDIRECT_URI], grant_types: ['authorization_code', 'refresh_token'], ...metadata }, authentication, { execute: loopback })

for (const method of ['client_secret_basic', 'client_secret_post', 'none']) {
  const authentication = method === 'none' ? client.None() : undefined
  const config = await register({ token_endpoint_auth_method: method },
    method === 'client_secret_basic' ? (as, me, body, headers) => client.ClientSecretBasic(me.client_secret)(as, me, body, headers) : authentication)
  assert.equal(config.clientMetadata().token_endpoint_auth_method, method)
  people[method] = (await enter(config)).claims().sub
}

// With keys in place of a secret, and what it says of itself is kept to.
const key = await keyOf('ES256')
const { d, ...jwk } = JSON.parse(process.env.KEYS).ES256
const config = await register({
  token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [jwk] }, id_token_signed_response_alg: 'ES256', dpop_bound_access_tokens: true,
  require_pushed_authorization_requests: true,
}, client.PrivateKeyJwt(key))
const bound = { DPoP: client.getDPoPHandle(config, await client.randomDPoPKeyPair()) }
people['private_key_jwt'] = (await enter(config, { build: client.buildAuthorizationUrlWithPAR, bound })).claims().sub
// Its requests must be pushed. It is a stranger, so that the person sees a page and is not sent anywhere.
assert.equal((await visit(client.buildAuthorizationUrl(config, { redirect_uri: REDIRECT_URI, scope: 'openid' }), { page: true })).status, '400')

const { registration_client_uri: at, registration_access_token: token } = config.clientMetadata()
const manage = async (method, body, bearer = token) => fetch(at, {
  method, headers: { authorization: `Bearer ${bearer}`, ...(body && { 'content-type': 'application/json' }) }, body: body && JSON.stringify(body),
})
const read = await (await manage('GET')).json()
assert.equal(read.client_id, config.clientMetadata().client_id)
assert.equal(read.dpop_bound_access_tokens, true)
assert.equal((await manage('GET', undefined, 'x' + token)).status, 401)
assert.equal((await manage('DELETE')).status, 204)
await assert.rejects(client.buildAuthorizationUrlWithPAR(config, { redirect_uri: REDIRECT_URI, scope: 'openid' }, bound), { status: 401 })

// What cannot be had is refused by name.
const issuer = new URL(ISSUER)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { [oauth.allowInsecureRequests]: true }))
const refused = await oauth.dynamicClientRegistrationRequest(as, { redirect_uris: ['http://evil.example.test/callback'] }, { [oauth.allowInsecureRequests]: true })
await assert.rejects(oauth.processDynamicClientRegistrationResponse(refused), { error: 'invalid_redirect_uri' })
finish({ people })
