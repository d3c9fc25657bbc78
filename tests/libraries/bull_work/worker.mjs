// A worker of Bull as its manual writes one.

import { done } from '../work.mjs'
import { open } from './queue.mjs'

const queue = open()
queue.process(5, async (job) => {
    const { name, x, kind } = job.data
    if (kind === 'stumble' && job.attemptsMade === 0) throw new Error('the first try fails')
    done(name)
    return x * x
})

process.on('SIGTERM', async () => {
    await queue.close()
    process.exit(0)
})
