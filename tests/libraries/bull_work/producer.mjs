// Jobs of each kind that Bull knows, and their results.

import assert from 'node:assert'
import { Asked, rounds, until } from '../work.mjs'
import { open } from './queue.mjs'

const queue = open()
const asked = new Asked()
const wanted = []

// An id of its own makes asking again harmless.
async function want(kind, name, x, options = {}) {
    await asked.put([name], () => queue.add({ kind, name, x }, { jobId: name, attempts: 9, backoff: 200, ...options }))
    wanted.push([name, x * x])
}

for await (const n of rounds()) {
    await want('square', `plain-${n}`, n)
    if (n % 3 === 0) {
        await want('square', `prio-${n}`, n, { priority: 1 + n % 10 })
        await want('stumble', `stumble-${n}`, n)
    }
    if (n % 4 === 0) await want('square', `later-${n}`, n, { delay: 500 })
    if (n % 10 === 0) await want('square', `lifo-${n}`, n, { lifo: true })
}

for (const [name, value] of wanted) {
    let job
    await until(async () => {
        job = await queue.getJob(name)
        return await job.isCompleted()
    }, `${name} is completed`)
    assert.deepStrictEqual(job.returnvalue, value, name)
}
await until(async () => {
    const { waiting, active, delayed, failed } = await queue.getJobCounts()
    return waiting + active + delayed + failed === 0
}, 'nothing is pending')
asked.report({ results: wanted.length })
await queue.close()
