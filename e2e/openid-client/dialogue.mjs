// The dialogue with the Go test: this side names the address to send the person to, the test plays the person and
// answers with the address at which the app was called back. One line of JSON or of text each way, then the result.
import { createInterface } from 'node:readline'
import assert from 'node:assert/strict'
import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto // Node.js 18, as in Debian 12, keeps it in the module

export const { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, POST_LOGOUT_REDIRECT_URI, AUTH_METHOD, PRIVATE_KEY, DPOP } = process.env

// The key of a client that signs its assertions.
export const privateKey = PRIVATE_KEY && await crypto.subtle.importKey('jwk', JSON.parse(PRIVATE_KEY), { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

// visit sends the person to an address and returns the one at which the app was called back. With { page: true } it returns what the
// person saw, too, with { deny: true } they say no.
export async function visit(url, how) {
  console.log(JSON.stringify({ visit: String(url), ...how }))
  const { value, done } = await lines.next()
  assert(!done, 'the test closed the dialogue')
  if (!how?.page) return new URL(value)
  const [at, status] = value.split(' ')
  return { url: new URL(at), status }
}

export function finish(result) {
  console.log(JSON.stringify({ result }))
  process.exit(0)
}
