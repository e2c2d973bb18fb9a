// Apps that ask a person without a browser of theirs (CIBA): the person decides on their account page while the app asks again and again.
import * as client from 'openid-client'
import * as oauth from 'oauth4webapi'
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { SignJWT } from 'jose'
import { ISSUER, visit, finish } from './dialogue.mjs'
import { apps, discover, keyOf, payload } from './story.mjs'

const hint = process.env.EMAIL
const requests = `${ISSUER}/account/requests`
const scope = 'openid email offline_access'

const till = await discover('till')
assert.deepEqual(till.serverMetadata().backchannel_token_delivery_modes_supported, ['poll', 'ping'])
const asked = await client.initiateBackchannelAuthentication(till, { scope, login_hint: hint, binding_message: 'Order 4711', requested_expiry: '120' })
assert.equal(asked.expires_in, 120)
await visit(requests)
const tokens = await client.pollBackchannelAuthenticationGrant(till, asked)
const { sub } = tokens.claims()
assert.equal((await client.fetchUserInfo(till, tokens.access_token, sub)).email, hint)
assert.ok((await client.refreshTokenGrant(till, tokens.refresh_token)).access_token)
await assert.rejects(client.pollBackchannelAuthenticationGrant(till, asked), { error: 'invalid_grant' }, 'an auth_req_id works once')

// The next time by the ID token, and refused.
const again = await client.initiateBackchannelAuthentication(till, { scope, id_token_hint: tokens.id_token })
await visit(requests, { deny: true })
await assert.rejects(client.pollBackchannelAuthenticationGrant(till, again), { error: 'access_denied' })

// Two hints, none, and a way that is not offered.
for (const wrong of [{ login_hint: hint, id_token_hint: tokens.id_token }, {}, { login_hint_token: 'x' }]) {
  await assert.rejects(client.initiateBackchannelAuthentication(till, { scope, ...wrong }), { error: 'invalid_request' })
}

// A client that signs its requests, proves itself by a key, and has its tokens tied to another.
const ES256 = await keyOf('ES256')
const bank = await discover('bank', client.PrivateKeyJwt(ES256))
const bound = { DPoP: client.getDPoPHandle(bank, await client.randomDPoPKeyPair()) }
const signed = (claims) =>
  new SignJWT({ scope, login_hint: hint, ...claims }).setProtectedHeader({ alg: 'ES256' })
    .setIssuer(apps.bank.id).setAudience(ISSUER).setIssuedAt().setNotBefore('0s').setExpirationTime('5m').setJti(client.randomNonce()).sign(ES256)
await assert.rejects(client.initiateBackchannelAuthentication(bank, { scope, login_hint: hint }), { error: 'invalid_request' }, 'a request that is not signed')
const secure = await client.initiateBackchannelAuthentication(bank, { request: await signed({ binding_message: 'Payment 12' }) })
await visit(requests)
const held = await client.pollBackchannelAuthenticationGrant(bank, secure, undefined, bound)
assert.equal(held.token_type, 'dpop')
assert.ok(payload(held.access_token).cnf.jkt)
assert.equal((await client.fetchUserInfo(bank, held.access_token, sub, bound)).sub, sub)

// A speaker that waits for a ping, which comes with the token it chose, and signs by the other name of EdDSA (RFC 9864). A copy of its
// request is worth nothing, and neither is a name that nobody has: it looks like somebody who does not answer.
const speaker = await discover('speaker')
const client_notification_token = client.randomState()
const pinged = new Promise((resolve) => {
  createServer((request, response) => {
    let body = ''
    request.on('data', (part) => body += part).on('end', () => {
      response.writeHead(204).end()
      resolve({ authorization: request.headers.authorization, ...JSON.parse(body) })
    })
  }).listen(new URL(process.env.PING).port, '127.0.0.1')
})
const sent = async (login_hint) => ({
  request: await oauth.issueRequestObject(speaker.serverMetadata(), { client_id: apps.speaker.id }, { scope: 'openid', login_hint, client_notification_token }, await keyOf('EdDSA')),
})
const request = await sent(hint)
const heard = await client.initiateBackchannelAuthentication(speaker, request)
await assert.rejects(client.initiateBackchannelAuthentication(speaker, request), { error: 'invalid_request_object' })
assert.deepEqual(Object.keys(await client.initiateBackchannelAuthentication(speaker, await sent('nobody@example.test'))), Object.keys(heard))
await visit(requests)
assert.deepEqual(await pinged, { authorization: `Bearer ${client_notification_token}`, auth_req_id: heard.auth_req_id })
const spoken = await client.pollBackchannelAuthenticationGrant(speaker, heard)
finish({ people: { backchannel: sub, bank: held.claims().sub, speaker: spoken.claims().sub } })
