// Workers of BullMQ as its manual writes them. A lock shorter than the default of 30 s gives a lost job to another sooner.

import { Worker } from 'bullmq'
import { DB, HOST, PORT, done } from '../work.mjs'

const options = {
    connection: { host: HOST, port: PORT, db: DB, maxRetriesPerRequest: null },
    concurrency: 5,
    lockDuration: 5_000,
    stalledInterval: 2_000,
    maxStalledCount: 9,
}

const worker = new Worker('work', async (job) => {
    const { name, x } = job.data
    if (job.name === 'stumble' && job.attemptsMade === 0) throw new Error('the first try fails')
    if (job.name === 'sum') {
        const values = Object.values(await job.getChildrenValues())
        done(name)
        return values.reduce((sum, value) => sum + value, 0)
    }
    done(name)
    return x * x
}, options)
worker.on('error', (error) => console.error(`worker: ${error}`))

process.on('SIGTERM', async () => {
    await worker.close()
    process.exit(0)
})
