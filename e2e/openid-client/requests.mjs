// How an authorization request travels, and its answer: pushed (RFC 9126), signed (RFC 9101), both; the answer as a form or signed (JARM).
import * as client from 'openid-client'
import assert from 'node:assert/strict'
import { visit, finish } from './dialogue.mjs'
import { apps, discover, enter, keyOf } from './story.mjs'

const people = {}
const config = await discover('web')
people.pushed = (await enter(config, { build: client.buildAuthorizationUrlWithPAR })).claims().sub

const signed = (alg) => async (config, parameters) => client.buildAuthorizationUrlWithJAR(config, parameters, await keyOf(alg))
for (const alg of ['ES256', 'PS256', 'RS256', 'EdDSA']) {
  people[`signed ${alg}`] = (await enter(config, { build: signed(alg) })).claims().sub
}
people['signed and pushed'] = (await enter(config, {
  build: async (config, parameters) => client.buildAuthorizationUrlWithPAR(config, (await signed('ES256')(config, parameters)).searchParams),
})).claims().sub

// What the browser could have changed on the way counts for nothing beside a signed request.
people['tampered with'] = (await enter(config, {
  build: async (config, parameters) => {
    const address = await signed('ES256')(config, parameters)
    address.searchParams.set('scope', 'openid profile phone')
    address.searchParams.set('state', 'smuggled')
    return address
  },
})).claims().sub

// Signed by a key that is not the app's: the person sees a page, the app nothing.
const stranger = await client.randomDPoPKeyPair('ES256')
const forged = await client.buildAuthorizationUrlWithJAR(config, { redirect_uri: 'http://127.0.0.1:9/callback', scope: 'openid' }, stranger.privateKey)
assert.match((await visit(forged, { page: true })).status, /^4/)
await assert.rejects(client.buildAuthorizationUrlWithPAR(config, forged.searchParams), { error: 'invalid_request_object' })

// form_post: the page posts to the app, which hands the library its request.
people['form_post'] = (await enter(config, {
  parameters: { response_mode: 'form_post' },
  arrived: (url) => new Request(new URL(url.pathname, url), { method: 'POST', body: url.searchParams }),
})).claims().sub

// Signed answers, by each algorithm and each way back that openid-client reads.
for (const app of ['answers RS256', 'answers ES256', 'answers EdDSA']) {
  const alg = app.split(' ')[1]
  const config = await client.discovery(new URL(process.env.ISSUER), apps[app].id, { authorization_signed_response_alg: alg },
    client.ClientSecretBasic(apps[app].secret), { execute: [client.allowInsecureRequests, client.useJwtResponseMode] })
  people[app] = (await enter(config)).claims().sub
  people[`${app}, pushed`] = (await enter(config, { build: client.buildAuthorizationUrlWithPAR })).claims().sub
  // An error is signed, too.
  await assert.rejects(enter(config, { parameters: { prompt: 'none', max_age: '0' } }), { error: 'login_required' })
}
finish({ people })
