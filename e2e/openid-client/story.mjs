// What the stories of the protocol share: the apps that the test registered and their keys, discovery, and a sign-in from
// beginning to end. A story fails by throwing; what it hands back is for the test to compare.
import * as client from 'openid-client'
import { ISSUER, REDIRECT_URI, visit } from './dialogue.mjs'

export const apps = JSON.parse(process.env.APPS) // name → { id, secret }

const algorithms = {
  ES256: { name: 'ECDSA', namedCurve: 'P-256' },
  RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  PS256: { name: 'RSA-PSS', hash: 'SHA-256' },
  EdDSA: { name: 'Ed25519' },
}

export function keyOf(alg) {
  return crypto.subtle.importKey('jwk', JSON.parse(process.env.KEYS)[alg], algorithms[alg], false, ['sign'])
}

// The server is on loopback without TLS; signatures are checked although TLS would excuse it.
export const loopback = [client.allowInsecureRequests, client.enableNonRepudiationChecks]

export function discover(app, authentication, ...execute) {
  return client.discovery(new URL(ISSUER), apps[app].id, {}, authentication ?? client.ClientSecretBasic(apps[app].secret), {
    execute: [...loopback, ...execute],
  })
}

// enter signs the person in and returns the tokens. build makes the address to send them to, from the parameters.
export async function enter(config, { parameters = {}, build = client.buildAuthorizationUrl, bound, arrived = (url) => url, exchange } = {}) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier()
  const expectedState = client.randomState()
  const expectedNonce = client.randomNonce()
  const request = new URLSearchParams({
    redirect_uri: REDIRECT_URI, scope: 'openid email offline_access', state: expectedState, nonce: expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256',
  })
  for (const [name, values] of Object.entries(parameters)) {
    request.delete(name)
    for (const value of [values].flat()) request.append(name, value)
  }
  const callback = arrived(await visit(await build(config, request, bound)))
  return client.authorizationCodeGrant(config, callback, { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: request.get('scope').includes('openid') }, exchange, bound)
}

// payload is what a JWT says, unchecked.
export const payload = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))
