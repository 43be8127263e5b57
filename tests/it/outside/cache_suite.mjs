// The tests for HTTP caches of the npm package http-cache-tests: its origin, and its client.
//
//   node cache_suite.mjs DIRECTORY origin         serves on a free port of the loopback, which it prints
//   node cache_suite.mjs DIRECTORY client BASE    runs all tests through the cache at BASE, and prints what came of each
//
// DIRECTORY holds node_modules. A line of the client is one test as JSON: its group, id, kind and result, and why it failed.

import http from 'node:http'
import path from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

const [, , directory, role, base] = process.argv
const suite = path.resolve(directory, 'node_modules/http-cache-tests')
const load = async name => import(pathToFileURL(path.join(suite, name)).href)

async function origin () {
  const names = { config: 'handle-config', state: 'handle-state', test: 'handle-test' }
  const handlers = {}
  for (const [segment, name] of Object.entries(names)) {
    handlers[segment] = (await load(`server/${name}.mjs`)).default
  }
  const server = http.createServer((request, response) => {
    const segments = new URL(request.url, 'http://localhost/').pathname.split('/').slice(1)
    const handler = handlers[segments.shift()]
    if (handler) {
      handler(segments, request, response)
    } else {
      response.writeHead(404).end()
    }
  })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
}

async function client () {
  const { runTests, getResults } = await load('client/runner.mjs')
  const { determineTestResult } = await load('lib/display.mjs')
  const groups = (await load('tests/index.mjs')).default
  groups.push((await load('tests/surrogate-control.mjs')).default)
  const fetch = (await import(pathToFileURL(path.resolve(directory, 'node_modules/node-fetch/lib/index.js')).href)).default
  await runTests(groups, fetch, false, base, 25)
  const results = getResults()
  for (const group of groups) {
    for (const test of group.tests.filter(test => results[test.id] !== undefined)) {
      const result = results[test.id]
      const said = determineTestResult(groups, test.id, results)[2]
      console.log(JSON.stringify({
        group: group.id,
        id: test.id,
        kind: test.kind ?? 'required',
        passed: result === true,
        // A test that rests on one that failed says nothing by itself.
        rests: said === '⚪️',
        why: result === true ? undefined : result.join(': ')
      }))
    }
  }
}

await (role === 'origin' ? origin() : client())
