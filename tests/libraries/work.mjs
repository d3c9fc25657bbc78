// What the Node programs of this directory share: see work.py, which says what each variable means.

import { appendFileSync } from 'node:fs'

const env = process.env
export const HOST = env.LIBRARY_HOST ?? '127.0.0.1'
export const PORT = Number(env.LIBRARY_PORT ?? 6379)
export const DB = Number(env.LIBRARY_DB ?? 0)
export const DONE = env.LIBRARY_DONE ?? ''
export const LEAST = Number(env.LIBRARY_LEAST ?? 100)
export const PAUSE_MS = Number(env.LIBRARY_PAUSE ?? 0.1) * 1000
export const PATIENCE_MS = Number(env.LIBRARY_PATIENCE ?? 90) * 1000

export const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms))

export const done = (job) => appendFileSync(DONE, `${job}\n`)

// Numbers until stdin ends, LEAST at least.
export async function* rounds() {
    let over = false
    process.stdin.on('end', () => { over = true }).resume()
    for (let number = 0; number < LEAST || !over; number += 1) {
        yield number
        await sleep(PAUSE_MS)
    }
}

// The jobs that a producer was told are in the queue.
export class Asked {
    jobs = []
    repeats = 0
    errors = {}

    // Calls until it succeeds: whoever gets an error does not know whether the job was taken, and asks again.
    async put(names, call) {
        const result = await this.again(call)
        this.jobs.push(...names)
        return result
    }

    async again(call) {
        for (const end = Date.now() + PATIENCE_MS; ;) {
            try {
                return await call()
            } catch (error) {
                this.note(error)
                if (Date.now() > end) throw error
                await sleep(50)
            }
        }
    }

    note(error) {
        const text = String(error).slice(0, 160)
        this.repeats += 1
        this.errors[text] = (this.errors[text] ?? 0) + 1
    }

    // The last line of a producer: what was asked for, and that all results were right.
    report(more) {
        console.log(JSON.stringify({ jobs: this.jobs, repeats: this.repeats, errors: this.errors, ...more }))
    }
}

// Waits until `holds()` is true, through errors of a server that is being replaced.
export async function until(holds, what) {
    let last
    for (const end = Date.now() + PATIENCE_MS; ;) {
        try {
            last = await holds()
            if (last) return last
        } catch (error) {
            last = error
        }
        if (Date.now() > end) throw new Error(`after ${PATIENCE_MS} ms still not: ${what} (${last})`)
        await sleep(100)
    }
}
