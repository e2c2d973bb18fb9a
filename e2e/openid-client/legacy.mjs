// Response types of old apps (OpenID Connect Core §3.2, §3.3), which an operator has allowed; and none.
import * as client from 'openid-client'
import assert from 'node:assert/strict'
import { REDIRECT_URI, visit, finish } from './dialogue.mjs'
import { discover, enter } from './story.mjs'

const people = {}
const posted = (url) => new Request(new URL(url.pathname, url), { method: 'POST', body: url.searchParams })

// Hybrid: the ID token that comes with the code vouches for it. By fragment and as a form.
const hybrid = await discover('hybrid', undefined, client.useCodeIdTokenResponseType)
const tokens = await enter(hybrid)
people.hybrid = tokens.claims().sub
assert.equal((await client.fetchUserInfo(hybrid, tokens.access_token, people.hybrid)).sub, people.hybrid)
people['hybrid, form_post'] = (await enter(hybrid, { parameters: { response_mode: 'form_post' }, arrived: posted })).claims().sub
// Another code than the one that the ID token names.
await assert.rejects(enter(hybrid, { arrived: (url) => new URL(url.href.replace(/code=./, 'code=_')) }), { code: 'OAUTH_JWT_CLAIM_COMPARISON_FAILED' })

// Implicit: only who it is.
const implicit = await discover('implicit', undefined, client.useIdTokenResponseType)
for (const mode of ['fragment', 'form_post']) {
  const expectedNonce = client.randomNonce()
  const expectedState = client.randomState()
  const came = await visit(client.buildAuthorizationUrl(implicit, { redirect_uri: REDIRECT_URI, scope: 'openid email', nonce: expectedNonce, state: expectedState, response_mode: mode }))
  const said = await client.implicitAuthentication(implicit, mode === 'form_post' ? posted(came) : came, expectedNonce, { expectedState })
  people[`implicit, ${mode}`] = said.sub
  assert.ok(said.email, 'there is no userinfo to ask')
  assert.ok(!came.href.includes('access_token'))
}

// none: only whether.
const config = await discover('none')
const state = client.randomState()
const came = await visit(client.buildAuthorizationUrl(config, { redirect_uri: REDIRECT_URI, scope: 'openid', response_type: 'none', state }))
assert.equal(came.searchParams.get('state'), state)
assert.ok(!came.searchParams.has('code') && !came.searchParams.has('error') && !came.hash, String(came))
finish({ people })
