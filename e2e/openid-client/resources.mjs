// Tokens for APIs: resource indicators (RFC 8707), token exchange (RFC 8693), introspection with a signed answer (RFC 9701).
import * as client from 'openid-client'
import * as oauth from 'oauth4webapi'
import assert from 'node:assert/strict'
import { ISSUER, finish } from './dialogue.mjs'
import { apps, discover, enter, payload } from './story.mjs'

const orders = 'https://orders.example.test'
const mail = 'https://mail.example.test'
const both = { resource: [orders, mail], scope: 'openid offline_access orders.read mail.send' }
const audience = (token) => [payload(token).aud].flat()

// Two at the authorization, one at a time afterwards.
const shop = await discover('shop')
const tokens = await enter(shop, { parameters: both, exchange: { resource: orders } })
const { sub } = tokens.claims()
assert.deepEqual(audience(tokens.access_token), [orders])
assert.equal(tokens.scope, 'orders.read mail.send')
const forMail = await client.refreshTokenGrant(shop, tokens.refresh_token, { resource: mail })
assert.deepEqual(audience(forMail.access_token), [mail])
assert.equal(forMail.scope, 'mail.send')
await assert.rejects(client.refreshTokenGrant(shop, forMail.refresh_token, { resource: 'https://other.example.test' }), { error: 'invalid_target' })
await assert.rejects(enter(shop, { parameters: { ...both, resource: 'https://other.example.test' } }), { error: 'invalid_target' })

// A token for an API opens nothing here.
await assert.rejects(client.fetchUserInfo(shop, forMail.access_token, sub))
await assert.rejects(client.clientCredentialsGrant(shop, { resource: orders }), { error: 'unauthorized_client' })

// The API goes on to the next one in the name of the person.
const api = await discover('orders')
const exchange = (parameters) => client.genericGrantRequest(api, 'urn:ietf:params:oauth:grant-type:token-exchange', {
  subject_token: tokens.access_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token', ...parameters,
})
const passed = await exchange({ resource: mail, scope: 'mail.send' })
assert.equal(passed.issued_token_type, 'urn:ietf:params:oauth:token-type:access_token')
assert.deepEqual(audience(passed.access_token), [mail])
assert.equal(passed.scope, 'mail.send')
assert.equal(payload(passed.access_token).sub, sub)
assert.deepEqual(payload(passed.access_token).act, { sub: apps.orders.id })
await assert.rejects(exchange({ audience: 'https://other.example.test' }), { error: 'invalid_target' })
await assert.rejects(exchange({ subject_token: forMail.access_token, audience: mail }), { error: 'invalid_request' })

// It asks about the token, and gets an answer that proves itself.
const insecure = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(ISSUER)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, insecure))
const me = { client_id: apps.orders.id }
const ask = async (token) => {
  const response = await oauth.introspectionRequest(as, me, oauth.ClientSecretBasic(apps.orders.secret), token, { requestJwtResponse: true, ...insecure })
  assert.match(response.headers.get('content-type'), /^application\/token-introspection\+jwt/)
  const answer = await oauth.processIntrospectionResponse(as, me, response)
  await oauth.validateApplicationLevelSignature(as, response, insecure)
  return answer
}
const known = await ask(tokens.access_token)
assert.equal(known.active, true)
assert.equal(known.sub, sub)
assert.equal(known.scope, 'orders.read mail.send')
assert.deepEqual(Object.keys(await ask(forMail.access_token)), ['active'], 'a token for another API is nothing to it')
await client.tokenRevocation(shop, forMail.refresh_token)
assert.equal((await ask(tokens.access_token)).active, false)

// The API's own description leads to the server (RFC 9728).
const described = await oauth.processResourceDiscoveryResponse(new URL(orders), new Response(await (await fetch(process.env.RESOURCE_METADATA)).text(), { headers: { 'content-type': 'application/json' } }))
assert.deepEqual(described.authorization_servers, [ISSUER])
finish({ people: { resources: sub } })
