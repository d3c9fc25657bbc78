// Jobs of each kind that BullMQ knows, and their results.

import { FlowProducer, Job, Queue } from 'bullmq'
import assert from 'node:assert'
import { Asked, DB, HOST, PORT, rounds, until } from '../work.mjs'

const connection = { host: HOST, port: PORT, db: DB, maxRetriesPerRequest: null }
const queue = new Queue('work', { connection })
const flows = new FlowProducer({ connection })
for (const each of [queue, flows]) each.on('error', (error) => console.error(`producer: ${error}`))
const asked = new Asked()
const wanted = []

// An id of its own makes asking again harmless.
async function want(kind, name, x, options = {}) {
    const more = { jobId: name, attempts: 9, backoff: { type: 'fixed', delay: 200 }, ...options }
    await asked.put([name], () => queue.add(kind, { name, x }, more))
    wanted.push([name, x * x])
}

for await (const n of rounds()) {
    await want('square', `plain-${n}`, n)
    if (n % 3 === 0) {
        await want('square', `prio-${n}`, n, { priority: 1 + n % 10 })
        await want('stumble', `stumble-${n}`, n)
    }
    if (n % 4 === 0) await want('square', `later-${n}`, n, { delay: 500 })
    if (n % 5 === 0) {
        const children = [0, 1, 2, 3].map((x) => (
            { name: 'square', queueName: 'work', data: { name: `child-${n}-${x}`, x }, opts: { jobId: `child-${n}-${x}`, attempts: 9 } }))
        const parent = { name: 'sum', queueName: 'work', data: { name: `sum-${n}` }, opts: { jobId: `sum-${n}`, attempts: 9 }, children }
        await asked.put([`sum-${n}`, ...children.map((child) => child.opts.jobId)], () => flows.add(parent))
        wanted.push([`sum-${n}`, 14])
    }
    if (n % 10 === 0) {
        const bulk = [0, 1, 2, 3, 4].map((x) => ({ name: 'square', data: { name: `bulk-${n}-${x}`, x }, opts: { jobId: `bulk-${n}-${x}`, attempts: 9 } }))
        await asked.put(bulk.map((each) => each.opts.jobId), () => queue.addBulk(bulk))
        for (const each of bulk) wanted.push([each.opts.jobId, each.data.x ** 2])
    }
}

for (const [name, value] of wanted) {
    let job
    await until(async () => {
        job = await Job.fromId(queue, name)
        return await job.isCompleted()
    }, `${name} is completed`)
    assert.deepStrictEqual(job.returnvalue, value, name)
}
await until(async () => {
    const counts = await queue.getJobCounts('wait', 'active', 'delayed', 'prioritized', 'failed', 'paused', 'waiting-children')
    const open = Object.values(counts).reduce((sum, count) => sum + count, 0)
    return open === 0
}, 'nothing is pending')
asked.report({ results: wanted.length })
await queue.close()
await flows.close()
