// Clients on both servers: whatever one says, all hear, over each of the adapters.

import assert from 'node:assert'
import { existsSync, readFileSync } from 'node:fs'
import { io } from 'socket.io-client'
import { Asked, DONE, done, rounds, until } from '../work.mjs'

const SERVERS = 2
const CLIENTS_EACH = 2
const KINDS = ['pubsub', 'sharded', 'streams']

const ports = () => (existsSync(`${DONE}.ports`) ? readFileSync(`${DONE}.ports`, 'utf8').trim().split('\n').map((line) => line.split(' ')) : [])
await until(() => ports().length === SERVERS * KINDS.length, 'the servers listen')
const asked = new Asked()
const clients = Object.fromEntries(KINDS.map((kind) => [kind, []]))
for (const [kind, port] of ports()) {
    for (let each = 0; each < CLIENTS_EACH; each += 1) {
        const socket = io(`http://127.0.0.1:${port}`, { forceNew: true, transports: ['websocket'] })
        const heard = new Set()
        socket.on('said', (message, acknowledge) => {
            heard.add(message)
            acknowledge(socket.id)
        })
        clients[kind].push({ socket, heard })
    }
}
const total = SERVERS * CLIENTS_EACH
for (const kind of KINDS) {
    await until(async () => await clients[kind][0].socket.emitWithAck('count') === total, `${kind}: each server knows of all clients`)
}

// A message of each round and kind is under way, whether those before have arrived or not.
const under_way = []
let repeated = 0
for await (const n of rounds()) {
    for (const kind of KINDS) {
        const message = `${kind}-${n}`
        const { socket } = clients[kind][n % total]
        under_way.push(socket.emitWithAck('say', message, total).then(({ heard, tries }) => {
            assert.equal(heard, total)
            repeated += tries - 1
            asked.jobs.push(message)
            done(message)
        }))
    }
}
let waiting = under_way.length
for (const each of under_way) each.then(() => { waiting -= 1 })
await until(() => waiting === 0, 'all messages are heard by all')
await Promise.all(under_way)
for (const kind of KINDS) {
    for (const { socket, heard } of clients[kind]) {
        for (const message of asked.jobs.filter((each) => each.startsWith(kind))) assert(heard.has(message), `${socket.id} missed ${message}`)
    }
    await until(async () => await clients[kind][0].socket.emitWithAck('count') === total, `${kind}: each server knows of all clients`)
    for (const { socket } of clients[kind]) socket.close()
}
asked.report({ repeated, results: asked.jobs.length * total })
