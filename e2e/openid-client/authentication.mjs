// Ways in which an app proves who it is, each at every endpoint that asks for it; and proofs that must not count.
import * as client from 'openid-client'
import assert from 'node:assert/strict'
import { finish } from './dialogue.mjs'
import { apps, discover, enter, keyOf } from './story.mjs'

const people = {}
const ways = {
  'signs ES256': client.PrivateKeyJwt(await keyOf('ES256')),
  'signs PS256': client.PrivateKeyJwt(await keyOf('PS256')),
  'signs RS256': client.PrivateKeyJwt(await keyOf('RS256')),
  'signs EdDSA': client.PrivateKeyJwt(await keyOf('EdDSA')),
  'hmac': client.ClientSecretJwt(apps.hmac.secret),
}
for (const [app, authentication] of Object.entries(ways)) {
  const config = await discover(app, authentication)
  const tokens = await enter(config, { build: client.buildAuthorizationUrlWithPAR })
  people[app] = tokens.claims().sub
  const next = await client.refreshTokenGrant(config, tokens.refresh_token)
  assert.equal((await client.tokenIntrospection(config, next.access_token)).active, true)
  assert.equal((await client.clientCredentialsGrant(config)).token_type, 'bearer')
  await client.tokenRevocation(config, next.refresh_token)
  assert.equal((await client.tokenIntrospection(config, next.access_token)).active, false)
}

// A key of another algorithm than the registered one, a key of nobody, an assertion for another server, one that has run out, one
// that was used before.
const refused = (authentication, what) => discover('signs ES256', authentication).then((config) =>
  assert.rejects(client.clientCredentialsGrant(config), { status: 401 }, what))
const key = await keyOf('ES256')
const edited = (edit) => client.PrivateKeyJwt(key, { [client.modifyAssertion]: (header, claims) => edit(claims) })
await refused(ways['signs PS256'], 'algorithm that is not registered')
await refused(client.PrivateKeyJwt((await client.randomDPoPKeyPair('ES256')).privateKey), 'key of nobody')
await refused(edited((claims) => { claims.aud = 'https://other.example.test' }), 'audience')
await refused(edited((claims) => { claims.exp -= 3600 }), 'time')
await refused(edited((claims) => { claims.sub = apps.hmac.id }), 'another app')
const once = await discover('signs ES256', edited((claims) => { claims.jti = 'the same' }))
await client.clientCredentialsGrant(once)
await assert.rejects(client.clientCredentialsGrant(once), { status: 401 }, 'an assertion that was used')
await refused(client.ClientSecretPost('guess'), 'a secret in place of a key')
finish({ people })
