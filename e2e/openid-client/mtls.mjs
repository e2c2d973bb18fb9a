// Apps that prove who they are by a TLS certificate, and tokens that are tied to it (RFC 8705). Here the server speaks TLS, so
// that nothing is excused.
import * as client from 'openid-client'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createHash, X509Certificate } from 'node:crypto'
import https from 'node:https'
import { ISSUER, finish } from './dialogue.mjs'
import { apps, enter, keyOf, payload } from './story.mjs'

// presenting gives a fetch that shows a certificate to whoever asks for one.
function presenting(name) {
  const pem = name && readFileSync(`${process.env.CERTIFICATES}/${name}.pem`)
  const agent = new https.Agent({ cert: pem, key: pem, ca: readFileSync(process.env.NODE_EXTRA_CA_CERTS), maxCachedSessions: 0 })
  return (url, { method, headers, body }) => new Promise((resolve, reject) => {
    const request = https.request(url, { agent, method, headers: Object.fromEntries(new Headers(headers)) }, async (answer) => {
      const parts = []
      for await (const part of answer) parts.push(part)
      const headers = Object.entries(answer.headers).map(([name, value]) => [name, String(value)])
      resolve(new Response(parts.length ? Buffer.concat(parts) : null, { status: answer.statusCode, headers }))
    })
    request.on('error', reject)
    request.end(body?.toString())
  })
}

const discover = (app, certificate, authentication) => client.discovery(new URL(ISSUER), apps[app].id, { use_mtls_endpoint_aliases: true }, authentication, {
  [client.customFetch]: presenting(certificate), execute: [client.enableNonRepudiationChecks],
})

const people = {}
for (const [app, certificate, authentication] of [
  ['named', 'named', client.TlsClientAuth()],
  ['self-signed', 'self-signed', client.TlsClientAuth()],
  ['fapi', 'named', client.PrivateKeyJwt(await keyOf('ES256'))],
]) {
  const config = await discover(app, certificate, authentication)
  assert.notEqual(config.serverMetadata().mtls_endpoint_aliases.token_endpoint, config.serverMetadata().token_endpoint)
  const tokens = await enter(config, { build: client.buildAuthorizationUrlWithPAR })
  people[app] = tokens.claims().sub
  const thumbprint = createHash('sha256').update(new X509Certificate(readFileSync(`${process.env.CERTIFICATES}/${certificate}.pem`)).raw).digest('base64url')
  assert.deepEqual(payload(tokens.access_token).cnf, { 'x5t#S256': thumbprint })
  await client.fetchUserInfo(config, tokens.access_token, people[app])
  const known = await client.tokenIntrospection(config, tokens.access_token)
  assert.deepEqual(known.cnf, { 'x5t#S256': thumbprint })
  const next = await client.refreshTokenGrant(config, tokens.refresh_token)

  // A token that was stolen, and what an app is without its certificate.
  for (const other of ['other', undefined]) {
    const thief = await discover(app, other, authentication)
    await assert.rejects(client.fetchUserInfo(thief, next.access_token, people[app]), `userinfo with the certificate ${other}`)
    if (app === 'fapi' && other) continue // it proves itself by its key, and may renew its certificate
    await assert.rejects(client.refreshTokenGrant(thief, next.refresh_token), `refresh with the certificate ${other}`)
  }
}
finish({ people })
