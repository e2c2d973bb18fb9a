// An MCP client that knows nothing but the address of an MCP server: it finds the authorization server, introduces itself, has
// the person asked, and calls a tool.
import assert from 'node:assert/strict'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js'
import { finish, visit } from '../openid-client/dialogue.mjs'

const { MCP_SERVER, DOCUMENT_URL, MCP_REDIRECT_URI } = process.env

const kept = {}
let authorizationURL
const provider = {
  redirectUrl: MCP_REDIRECT_URI,
  clientMetadataUrl: DOCUMENT_URL || undefined,
  clientMetadata: {
    client_name: 'Test agent', redirect_uris: [MCP_REDIRECT_URI], grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'], token_endpoint_auth_method: 'none',
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens },
  redirectToAuthorization: (url) => { authorizationURL = url },
  saveCodeVerifier: (verifier) => { kept.verifier = verifier },
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (state) => { kept.discovery = state },
  discoveryState: () => kept.discovery,
}

async function connect() {
  const client = new Client({ name: 'test-agent', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(MCP_SERVER), { authProvider: provider })
  return { client, transport, connected: client.connect(transport) }
}

const first = await connect()
await assert.rejects(first.connected, UnauthorizedError)
assert(authorizationURL, 'no authorization was begun')
const back = await visit(authorizationURL)
assert(back.searchParams.get('code'), `the person came back with ${back}`)
await first.transport.finishAuth(back.searchParams.get('code'))

const { client, connected } = await connect()
await connected
const answer = await client.callTool({ name: 'find_notes', arguments: { word: 'gates' } })
await client.close()
finish({
  clientID: kept.client.client_id, resource: authorizationURL.searchParams.get('resource'), scope: kept.tokens.scope,
  person: answer.structuredContent.person, notes: answer.structuredContent.notes, refreshable: Boolean(kept.tokens.refresh_token),
})
