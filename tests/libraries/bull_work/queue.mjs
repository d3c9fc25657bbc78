// The queue that both sides open. A lock shorter than the default of 30 s gives a lost job to another sooner.

import Bull from 'bull'
import { DB, HOST, PORT } from '../work.mjs'

export function open() {
    const queue = new Bull('work', {
        redis: { host: HOST, port: PORT, db: DB, maxRetriesPerRequest: null, enableReadyCheck: false },
        settings: { lockDuration: 5_000, stalledInterval: 2_000, maxStalledCount: 9, guardInterval: 1_000 },
    })
    queue.on('error', (error) => console.error(`bull: ${error}`))
    return queue
}
