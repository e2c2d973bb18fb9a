// Messages that nobody on the way can read (RFC 7516): ID tokens, userinfo, answers and introspection to the app, requests to the server.
import * as client from 'openid-client'
import * as jose from 'jose'
import assert from 'node:assert/strict'
import { ISSUER, POST_LOGOUT_REDIRECT_URI, visit, finish } from './dialogue.mjs'
import { apps, enter, keyOf, loopback } from './story.mjs'

const keys = JSON.parse(process.env.KEYS)
const usages = { 'ECDH-ES': [{ name: 'ECDH', namedCurve: 'P-256' }, ['deriveBits']], 'RSA-OAEP-256': [{ name: 'RSA-OAEP', hash: 'SHA-256' }, ['decrypt']] }
const people = {}
for (const app of Object.keys(apps)) {
  const [alg, enc] = app.split('/')
  const kind = alg.startsWith('ECDH-ES') ? 'ECDH-ES' : alg
  const key = await crypto.subtle.importKey('jwk', keys[kind], usages[kind][0], false, usages[kind][1])
  const config = await client.discovery(new URL(ISSUER), apps[app].id, { introspection_signed_response_alg: 'RS256', userinfo_signed_response_alg: 'ES256' },
    client.ClientSecretBasic(apps[app].secret), { execute: [...loopback, client.useJwtResponseMode, (config) => client.enableDecryptingResponses(config, [enc], { key, alg })] })
  let answer
  const tokens = await enter(config, { arrived: (url) => answer = url })
  people[app] = tokens.claims().sub
  for (const [what, token] of Object.entries({ 'ID token': tokens.id_token, 'answer': answer.searchParams.get('response') })) {
    const header = jose.decodeProtectedHeader(token)
    assert.deepEqual([header.alg, header.enc, token.split('.').length], [alg, enc, 5], what)
  }
  assert.equal((await client.fetchUserInfo(config, tokens.access_token, people[app])).sub, people[app])
  assert.equal((await client.tokenIntrospection(config, tokens.access_token)).active, true)
  assert.ok((await client.refreshTokenGrant(config, tokens.refresh_token)).claims().sub)

  // The request, signed and then encrypted to a key of the server.
  const { keys: published } = await (await fetch(config.serverMetadata().jwks_uri)).json()
  const theirs = published.find((key) => key.use === 'enc' && (key.kty === 'RSA') === alg.startsWith('RSA'))
  people[`${app}, request`] = (await enter(config, {
    build: async (config, parameters) => {
      const address = await client.buildAuthorizationUrlWithJAR(config, parameters, await keyOf('ES256'))
      const request = await new jose.CompactEncrypt(Buffer.from(address.searchParams.get('request')))
        .setProtectedHeader({ alg, enc, cty: 'oauth-authz-req+jwt', kid: theirs.kid }).encrypt(await jose.importJWK(theirs, alg))
      address.searchParams.set('request', request)
      return address
    },
  })).claims().sub

  // Only what was inside the ID token is a hint for the server.
  const inner = client.getDecryptedResponses(tokens)
  assert.ok(inner.authorization_response)
  const left = await visit(client.buildEndSessionUrl(config, { post_logout_redirect_uri: POST_LOGOUT_REDIRECT_URI, id_token_hint: inner.id_token.token_endpoint }))
  assert.equal(left.href, POST_LOGOUT_REDIRECT_URI)
}
finish({ people })
