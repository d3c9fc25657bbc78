// An Express server whose sessions are in Redis, as connect-redis's manual has it.

import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { appendFileSync } from 'node:fs'
import { createClient } from 'redis'
import { DB, DONE, HOST, PORT } from '../work.mjs'

const client = createClient({ url: `redis://${HOST}:${PORT}/${DB}` })
client.on('error', (error) => console.error(`redis: ${error}`))
await client.connect()

const app = express()
app.use(session({ store: new RedisStore({ client }), secret: 'of a test', resave: false, saveUninitialized: false }))
app.get('/set', (request, response) => {
    request.session[request.query.key] = request.query.value
    response.send('ok')
})
app.get('/get', (request, response) => response.send(request.session[request.query.key] ?? 'nothing'))

const server = app.listen(0, '127.0.0.1', () => appendFileSync(`${DONE}.ports`, `${server.address().port}\n`))
process.on('SIGTERM', () => process.exit(0))
