// A Socket.IO server of a pair, with each of the adapters. Says its ports in a file.

import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter'
import { createAdapter as createStreamsAdapter } from '@socket.io/redis-streams-adapter'
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createClient } from 'redis'
import { Server } from 'socket.io'
import { DB, DONE, HOST, PORT } from '../work.mjs'

async function client() {
    const made = createClient({ url: `redis://${HOST}:${PORT}/${DB}` })
    made.on('error', (error) => console.error(`redis: ${error}`))
    await made.connect()
    return made
}

// Names of their own: what one adapter publishes is no message of another.
const adapters = {
    pubsub: async () => createAdapter(await client(), await client(), { key: 'pubsub', requestsTimeout: 2_000 }),
    sharded: async () => createShardedAdapter(await client(), await client(), { channelPrefix: 'sharded' }),
    streams: async () => createStreamsAdapter(await client(), { streamName: 'streams', channelPrefix: 'streams' }),
}

// What an adapter had on its way when a node died; the message is sent again below.
process.on('unhandledRejection', (error) => console.error(`not sent: ${error}`))

for (const [kind, make] of Object.entries(adapters)) {
    const http = createServer()
    const io = new Server(http, { adapter: await make() })
    io.on('connection', (socket) => {
        socket.join('room')
        // To everybody on both servers; asked again until all have said that they have it.
        socket.on('say', async (message, clients, answer) => {
            for (let tries = 1; ; tries += 1) {
                try {
                    const heard = await io.to('room').timeout(2_000).emitWithAck('said', message)
                    if (heard.length === clients) return answer({ heard: heard.length, tries })
                } catch (error) {
                    console.error(`${kind} ${message}: ${error}`)
                }
            }
        })
        socket.on('count', async (answer) => {
            try {
                answer((await io.fetchSockets()).length)
            } catch (error) {
                answer(String(error))
            }
        })
    })
    await new Promise((listening) => http.listen(0, '127.0.0.1', listening))
    appendFileSync(`${DONE}.ports`, `${kind} ${http.address().port}\n`)
}
process.on('SIGTERM', () => process.exit(0))
