// Devices without a browser (RFC 8628): the person decides elsewhere while the device asks again and again.
import * as client from 'openid-client'
import * as oauth from 'oauth4webapi'
import assert from 'node:assert/strict'
import { visit, finish } from './dialogue.mjs'
import { apps, discover } from './story.mjs'

const television = await discover('television', client.None())
const scope = 'openid email offline_access'

// One device is allowed, another with a key of its own, and a third one refused.
const bound = { DPoP: client.getDPoPHandle(television, await client.randomDPoPKeyPair()) }
const [one, two, three] = [
  await client.initiateDeviceAuthorization(television, { scope }),
  await client.initiateDeviceAuthorization(television, { scope }),
  await client.initiateDeviceAuthorization(television, { scope }),
]
const as = television.serverMetadata()
const me = { client_id: apps.television.id }
const asked = await oauth.deviceCodeGrantRequest(as, me, oauth.None(), one.device_code, { [oauth.allowInsecureRequests]: true })
await assert.rejects(oauth.processDeviceCodeResponse(as, me, asked), { error: 'authorization_pending' })

await visit(one.verification_uri_complete)
await visit(two.verification_uri_complete)
await visit(three.verification_uri_complete, { deny: true })
const [first, second] = await Promise.all([
  client.pollDeviceAuthorizationGrant(television, one),
  client.pollDeviceAuthorizationGrant(television, two, undefined, bound),
  assert.rejects(client.pollDeviceAuthorizationGrant(television, three), { error: 'access_denied' }),
])
const { sub } = first.claims()
assert.equal((await client.fetchUserInfo(television, first.access_token, sub)).sub, sub)
assert.ok((await client.refreshTokenGrant(television, first.refresh_token)).access_token)
assert.equal(second.token_type, 'dpop')
assert.equal((await client.fetchUserInfo(television, second.access_token, sub, bound)).sub, sub)
await assert.rejects(client.refreshTokenGrant(television, second.refresh_token), { error: 'invalid_grant' }, 'a refresh token of a public client without its key')
finish({ people: { device: sub } })
