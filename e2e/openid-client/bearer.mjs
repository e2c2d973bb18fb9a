// The word of another issuer in place of a secret (RFC 7523 §2.1): of a machine, and of a person.
import * as client from 'openid-client'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { ISSUER, finish } from './dialogue.mjs'
import { discover, keyOf, payload } from './story.mjs'

// assertion is what the other issuer signs.
async function assertion(alg, claims) {
  const now = Math.floor(Date.now() / 1000)
  const said = { aud: ISSUER, iat: now, exp: now + 60, jti: randomUUID(), ...claims }
  const input = [{ alg, typ: 'JWT' }, said].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const how = { ES256: { name: 'ECDSA', hash: 'SHA-256' }, PS256: { name: 'RSA-PSS', saltLength: 32 } }[alg]
  return `${input}.${Buffer.from(await crypto.subtle.sign(how, await keyOf(alg), Buffer.from(input))).toString('base64url')}`
}
const grant = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

const deploy = await discover('deploy', client.None())
const sub = 'repo:acme/shop:environment:live'
const ci = { iss: 'https://ci.example.test', sub }
const job = await assertion('PS256', ci)
const token = await client.genericGrantRequest(deploy, grant, { assertion: job, scope: 'deploy:write' })
assert.equal(token.scope, 'deploy:write')
assert.equal(token.refresh_token, undefined)
assert.equal(payload(token.access_token).sub, 'deploy')
for (const [what, wrong] of Object.entries({
  'used before': job,
  'another repository': await assertion('PS256', { ...ci, sub: 'repo:evil/shop:environment:live' }),
  'another algorithm': await assertion('ES256', ci),
  'another audience': await assertion('PS256', { ...ci, aud: 'https://other.example.test' }),
  'another issuer': await assertion('PS256', { ...ci, iss: 'https://evil.example.test' }),
  'an hour old': await assertion('PS256', { ...ci, iat: 1, exp: 60 }),
})) {
  await assert.rejects(client.genericGrantRequest(deploy, grant, { assertion: wrong }), { error: 'invalid_grant' }, what)
}

// A service of the house speaks of a person; with a key of the app's own the token is worth nothing to others.
const agent = await discover('helper')
const bound = { DPoP: client.getDPoPHandle(agent, await client.randomDPoPKeyPair()) }
const person = { iss: 'https://house.example.test', sub: process.env.PERSON }
const theirs = await client.genericGrantRequest(agent, grant, { assertion: await assertion('ES256', person), scope: 'notes:read' }, bound)
assert.equal(theirs.token_type, 'dpop')
assert.deepEqual(payload(theirs.access_token).act, { sub: 'helper' })
const known = await client.tokenIntrospection(agent, theirs.access_token)
assert.equal(known.active, true)
assert.equal(known.sub, person.sub)
await assert.rejects(client.fetchUserInfo(agent, theirs.access_token, person.sub, bound), 'nobody signed in')
await assert.rejects(client.genericGrantRequest(agent, grant, { assertion: await assertion('ES256', { ...person, sub: randomUUID() }) }), { error: 'invalid_grant' })
finish({ people: { bearer: payload(theirs.access_token).sub } })
