//! The queue beside a simple model that looks at every job for every question, under random operations, stale tokens and
//! restores included.

use proptest::prelude::*;

use super::*;
use crate::value::Typed;
use skep_base::varint::Reader;

/// A job of the model; the position in the list is the order of adding.
#[derive(Clone, Debug)]
struct Modelled {
    id: Vec<u8>,
    state: State,
    /// In the states that have one.
    deadline: u64,
    life_end: u64,
    attempt: u32,
    tries: u32,
    started: bool,
    priority: u8,
    group: Option<u8>,
    keep: u64,
    token: u64,
    worker: u8,
    redone: bool,
}

#[derive(Default)]
struct Model {
    now: u64,
    jobs: Vec<Modelled>,
    /// Word, id, end of the window.
    words: Vec<(u8, Vec<u8>, u64)>,
    taken: Vec<u64>,
    settings: Settings,
    last_token: u64,
    /// Every lease ever given.
    leases: Vec<(Vec<u8>, u64)>,
}

const FOR_EVER: u64 = u64::MAX;

#[derive(Clone, Debug)]
enum Op {
    Add {
        id: Option<u8>,
        word: Option<u8>,
        delay: u64,
        priority: u8,
        group: Option<u8>,
        tries: u32,
        ttl: u64,
        keep: u64,
    },
    Take {
        worker: u8,
        lease: u64,
    },
    /// The newest, or one of all.
    Ack {
        newest: bool,
        which: usize,
    },
    Fail {
        newest: bool,
        which: usize,
        failed: Failed,
    },
    Beat {
        newest: bool,
        which: usize,
        ms: u64,
    },
    BeatWorker {
        worker: u8,
        ms: u64,
    },
    Redo {
        which: usize,
    },
    Drop {
        which: usize,
    },
    Pass {
        ms: u64,
    },
    Limit(u64),
    GroupLimit(u64),
    Rate(Option<u64>),
    MaxLen(u64),
    Pause(bool),
    DeadKeep(u64),
    Restore,
}

/// Small spans, so that deadlines meet.
fn op() -> impl Strategy<Value = Op> {
    let add = (
        prop::option::of(0..12u8),
        prop::option::weighted(0.2, 0..4u8),
        prop_oneof![3 => Just(0), 1 => 1..60u64],
        0..10u8,
        prop::option::of(0..4u8),
        0..4u32,
        prop_oneof![3 => Just(0), 1 => 1..80u64],
        prop_oneof![1 => Just(0), 1 => 1..100u64],
    );
    let add = add.prop_map(|(id, word, delay, priority, group, tries, ttl, keep)| Op::Add {
        id,
        word,
        delay,
        priority,
        group,
        tries,
        ttl,
        keep,
    });
    let failed = prop_oneof![
        Just(Failed::Retry(None)),
        (0..40u64).prop_map(|ms| Failed::Retry(Some(ms))),
        Just(Failed::Die),
        (0..20u64).prop_map(Failed::Free),
    ];
    let pass = prop_oneof![3 => 0..4u64, 2 => 0..60u64, 1 => 0..400u64];
    prop_oneof![
        8 => add,
        8 => (0..3u8, 1..60u64).prop_map(|(worker, lease)| Op::Take { worker, lease }),
        5 => (any::<bool>(), 0..1_000usize).prop_map(|(newest, which)| Op::Ack { newest, which }),
        4 => (any::<bool>(), 0..1_000usize, failed)
            .prop_map(|(newest, which, failed)| Op::Fail { newest, which, failed }),
        2 => (any::<bool>(), 0..1_000usize, 1..60u64).prop_map(|(newest, which, ms)| Op::Beat { newest, which, ms }),
        1 => (0..3u8, 1..60u64).prop_map(|(worker, ms)| Op::BeatWorker { worker, ms }),
        2 => (0..1_000usize).prop_map(|which| Op::Redo { which }),
        1 => (0..1_000usize).prop_map(|which| Op::Drop { which }),
        6 => pass.prop_map(|ms| Op::Pass { ms }),
        1 => (0..4u64).prop_map(Op::Limit),
        1 => (1..4u64).prop_map(Op::GroupLimit),
        1 => prop::option::of(1..4u64).prop_map(Op::Rate),
        1 => (0..12u64).prop_map(Op::MaxLen),
        1 => prop::bool::weighted(0.2).prop_map(Op::Pause),
        1 => (0..60u64).prop_map(Op::DeadKeep),
        1 => Just(Op::Restore),
    ]
}

fn group_name(group: u8) -> SmallBytes {
    SmallBytes::new(format!("group{group}").as_bytes())
}

fn worker_name(worker: u8) -> Vec<u8> {
    if worker == 0 { Vec::new() } else { format!("worker{worker}").into_bytes() }
}

const RATE_PER_MS: u64 = 50;

impl Model {
    fn settle(&mut self) {
        let now = self.now;
        let dead_keep = self.settings.dead_keep_ms;
        self.words.retain(|word| word.2 >= now);
        // A job may pass through several states: a lease ends, and its life is over too.
        for job in &mut self.jobs {
            if job.state == State::Delayed && job.deadline < now {
                (job.state, job.deadline) = (State::Ready, job.life_end);
            }
            if job.state == State::Leased && job.deadline < now {
                let left = job.tries == 0 || job.attempt < job.tries;
                (job.state, job.deadline) = match left {
                    true => (State::Ready, job.life_end),
                    false if dead_keep == 0 => (State::Dead, FOR_EVER),
                    false => (State::Dead, now + dead_keep),
                };
            }
        }
        let over = |job: &Modelled| {
            matches!(job.state, State::Ready | State::Dead | State::Done) && job.deadline < now
        };
        self.jobs.retain(|job| !over(job));
    }

    fn in_work(&self, group: u8) -> u64 {
        let of = |job: &&Modelled| {
            job.group == Some(group)
                && (job.state == State::Leased || job.state == State::Delayed && job.started)
        };
        self.jobs.iter().filter(of).count() as u64
    }

    /// The position of the job that a take must give.
    fn first(&self) -> Option<usize> {
        let leased = self.jobs.iter().filter(|job| job.state == State::Leased).count() as u64;
        let within = self.taken.iter().filter(|at| **at + RATE_PER_MS > self.now).count() as u64;
        let is_barred = self.settings.paused
            || self.settings.limit > 0 && leased >= self.settings.limit
            || self.settings.rate.is_some_and(|rate| within >= rate.count);
        if is_barred {
            return None;
        }
        let may = |at: &usize| {
            let job = &self.jobs[*at];
            let is_first = |group: u8| {
                let mut of = self.jobs.iter().filter(|j| j.group == Some(group) && j.state == State::Ready);
                of.next().is_some_and(|first| first.id == job.id)
            };
            job.state == State::Ready
                && job.group.is_none_or(|g| is_first(g) && self.in_work(g) < self.settings.group_limit)
        };
        (0..self.jobs.len()).filter(may).min_by_key(|at| (PRIORITY_MAX - self.jobs[*at].priority, *at))
    }

    fn lease(&self, newest: bool, which: usize) -> (Vec<u8>, u64) {
        let unknown = (b"unknown".to_vec(), 5);
        let at = if newest { self.leases.len().checked_sub(1) } else { which.checked_rem(self.leases.len()) };
        at.map_or(unknown, |at| self.leases[at].clone())
    }

    /// The job of a lease that holds.
    fn held(&self, id: &[u8], token: u64) -> Result<usize, LeaseError> {
        let at = self.jobs.iter().position(|job| job.id == id).ok_or(LeaseError::NoJob)?;
        let job = &self.jobs[at];
        let holds = job.state == State::Leased && job.token == token && job.deadline >= self.now;
        if holds { Ok(at) } else { Err(LeaseError::Stale) }
    }

    fn again(&mut self, at: usize, pause: u64) -> Fate {
        let now = self.now;
        let job = &mut self.jobs[at];
        if job.life_end < now + pause {
            self.jobs.remove(at);
            return Fate::Expired;
        }
        (job.state, job.deadline) =
            if pause == 0 { (State::Ready, job.life_end) } else { (State::Delayed, now + pause) };
        Fate::Again(Millis(now + pause))
    }

    fn compare(&self, queue: &Queue) {
        queue.assert_invariants();
        for state in State::ALL {
            let count = self.jobs.iter().filter(|job| job.state == state).count();
            assert_eq!(queue.count(state), count, "jobs that are {}", state.name());
            let listed: Vec<Vec<u8>> = queue.list(state, None).map(|(_, job)| job.id.to_vec()).collect();
            assert_eq!(listed.len(), count, "INV-QUEUE-1: list of {}", state.name());
            let in_parts = in_steps(queue, state);
            assert_eq!(in_parts, listed, "a list in steps shows the same");
        }
        for job in &self.jobs {
            let other = queue.job(&job.id).unwrap_or_else(|| panic!("INV-QUEUE-1: {job:?} is lost"));
            let seen = (other.state, other.deadline.0, other.attempt, other.priority);
            assert_eq!(seen, (job.state, job.deadline, job.attempt, job.priority), "{job:?}");
        }
        let leased = queue.count(State::Leased) as u64;
        assert!(queue.list(State::Leased, None).count() as u64 == leased);
    }
}

/// The ids of a state, two at a time.
fn in_steps(queue: &Queue, state: State) -> Vec<Vec<u8>> {
    let (mut cursor, mut ids) = (None, Vec::new());
    loop {
        let step: Vec<(Cursor, Vec<u8>)> =
            queue.list(state, cursor.as_ref()).take(2).map(|(c, job)| (c, job.id.to_vec())).collect();
        let Some((last, _)) = step.last() else { return ids };
        cursor = Some(Cursor::parse(&last.text()).expect("a cursor's own text"));
        ids.extend(step.into_iter().map(|(_, id)| id));
    }
}

/// Runs `ops` on both.
fn run(ops: &[Op]) {
    let mut queue = Queue::default();
    let mut numbers = Numbers::default();
    let mut model = Model { now: 1_000, ..Model::default() };
    for op in ops {
        let now = Millis(model.now);
        match op {
            Op::Add { id, word, delay, priority, group, tries, ttl, keep } => {
                let text = id.map(|id| format!("id{id}"));
                let word_text = word.map(|word| [word]);
                let options = Options {
                    group: group.map(group_name),
                    tries: Some(*tries),
                    backoff: Some(Backoff { first_ms: 5, max_ms: 15 }),
                    ttl_ms: (*ttl > 0).then_some(*ttl),
                    ttl_from: None,
                    keep_ms: Some(*keep),
                    lease_ms: None,
                };
                let new = NewJob {
                    id: text.as_ref().map(|t| t.as_bytes()),
                    payload: b"payload",
                    dedup: word_text.as_ref().map(|w| (&w[..], 70)),
                    due: Some(now.plus(*delay)),
                    priority: *priority,
                    options: Some(Arc::new(options)),
                };
                let answer = queue.add(&new, now, &mut numbers);
                let known = text.as_ref().map(|t| t.as_bytes().to_vec());
                let known = known.filter(|id| model.jobs.iter().any(|job| job.id == *id));
                let remembered = model.words.iter().find(|w| Some(w.0) == *word).map(|w| w.1.clone());
                let unfinished =
                    model.jobs.iter().filter(|j| !matches!(j.state, State::Dead | State::Done)).count()
                        as u64;
                let max = model.settings.max_len;
                if let Some(first) = known.or(remembered) {
                    assert_eq!(answer, Ok((SmallBytes::new(&first), false)), "INV-QUEUE-6");
                } else if max > 0 && unfinished >= max {
                    assert_eq!(answer, Err(Full { jobs: unfinished, max }));
                } else {
                    let (id, is_new) = answer.expect("there is room");
                    assert!(is_new, "{id:?}");
                    if let Some(word) = word {
                        model.words.push((*word, id.to_vec(), now.0 + 70));
                    }
                    let life_end = if *ttl > 0 { now.0 + delay + ttl } else { FOR_EVER };
                    let (state, deadline) =
                        if *delay > 0 { (State::Delayed, now.0 + delay) } else { (State::Ready, life_end) };
                    model.jobs.push(Modelled {
                        id: id.to_vec(),
                        state,
                        deadline,
                        life_end,
                        attempt: 0,
                        tries: *tries,
                        started: false,
                        priority: *priority,
                        group: *group,
                        keep: *keep,
                        token: 0,
                        worker: 0,
                        redone: false,
                    });
                }
            }
            Op::Take { worker, lease } => {
                let expected = model.first();
                let taken = queue.take(&worker_name(*worker), Some(*lease), now, &mut numbers).cloned();
                let ids = (expected.map(|at| &model.jobs[at].id[..]), taken.as_ref().map(|job| &job.id[..]));
                assert_eq!(ids.1, ids.0, "INV-QUEUE-4 and 5: the job that is handed out");
                if let (Some(at), Some(taken)) = (expected, taken) {
                    let token = taken.run.expect("it is leased").token;
                    assert!(token > model.last_token, "INV-QUEUE-2: {token} after {}", model.last_token);
                    model.last_token = token;
                    if model.settings.rate.is_some() {
                        model.taken.push(model.now);
                    }
                    let job = &mut model.jobs[at];
                    (job.state, job.deadline) = (State::Leased, now.0 + lease);
                    (job.started, job.token, job.worker) = (true, token, *worker);
                    job.attempt += 1;
                    model.leases.push((job.id.clone(), token));
                }
            }
            Op::Ack { newest, which } => {
                let (id, token) = model.lease(*newest, *which);
                let answer = queue.acknowledge(&id, token, None, now);
                let done_by_it =
                    model.jobs.iter().any(|j| j.id == id && j.state == State::Done && j.token == token);
                match model.held(&id, token) {
                    Err(_) if done_by_it => assert_eq!(answer, Ok(())),
                    Err(error) => assert_eq!(answer, Err(error), "INV-QUEUE-3"),
                    Ok(at) => {
                        assert_eq!(answer, Ok(()));
                        let job = &mut model.jobs[at];
                        (job.state, job.deadline) = (State::Done, now.0 + job.keep);
                        if job.keep == 0 {
                            model.jobs.remove(at);
                        }
                    }
                }
            }
            Op::Fail { newest, which, failed } => {
                let (id, token) = model.lease(*newest, *which);
                let answer = queue.fail(&id, token, *failed, b"no luck", now);
                match model.held(&id, token) {
                    Err(error) => assert_eq!(answer, Err(error)),
                    Ok(at) => {
                        let job = &mut model.jobs[at];
                        let left = job.tries == 0 || job.attempt < job.tries;
                        let expected = match failed {
                            Failed::Free(pause) => {
                                job.attempt -= 1;
                                model.again(at, *pause)
                            }
                            Failed::Retry(pause) if left => {
                                let pause = pause.unwrap_or((5u64 << (job.attempt - 1).min(10)).min(15));
                                model.again(at, pause)
                            }
                            _ => {
                                let keep = model.settings.dead_keep_ms;
                                job.state = State::Dead;
                                job.deadline = if keep == 0 { FOR_EVER } else { now.0 + keep };
                                Fate::Dead
                            }
                        };
                        assert_eq!(answer, Ok(expected));
                    }
                }
            }
            Op::Beat { newest, which, ms } => {
                let (id, token) = model.lease(*newest, *which);
                let answer = queue.beat(&id, token, Some(*ms), now);
                match model.held(&id, token) {
                    Err(error) => assert_eq!(answer, Err(error)),
                    Ok(at) => {
                        let job = &mut model.jobs[at];
                        job.deadline = job.deadline.max(now.0 + ms);
                        assert_eq!(answer, Ok(Millis(job.deadline)));
                    }
                }
            }
            Op::BeatWorker { worker, ms } => {
                let mut held: Vec<Vec<u8>> = queue
                    .beat_worker(&worker_name(*worker), Some(*ms), now)
                    .into_iter()
                    .map(|job| job.id.to_vec())
                    .collect();
                let mut expected = Vec::new();
                for job in model.jobs.iter_mut() {
                    if job.state == State::Leased
                        && job.worker == *worker
                        && *worker > 0
                        && job.deadline >= now.0
                    {
                        job.deadline = job.deadline.max(now.0 + ms);
                        expected.push(job.id.clone());
                    }
                }
                held.sort();
                expected.sort();
                assert_eq!(held, expected);
            }
            Op::Redo { which } => {
                let at = which.checked_rem(model.jobs.len());
                let id = at.map_or(b"unknown".to_vec(), |at| model.jobs[at].id.clone());
                let ended = at.filter(|at| matches!(model.jobs[*at].state, State::Dead | State::Done));
                assert_eq!(queue.redo(&id, now), ended.is_some());
                if let Some(at) = ended {
                    let job = &mut model.jobs[at];
                    let life = queue.job(&id).expect("it was redone").deadline.0;
                    assert!(life == FOR_EVER || life > now.0);
                    job.life_end = life;
                    (job.state, job.deadline, job.attempt) = (State::Ready, life, 0);
                    (job.started, job.redone) = (false, true);
                }
            }
            Op::Drop { which } => {
                let at = which.checked_rem(model.jobs.len());
                let id = at.map_or(b"unknown".to_vec(), |at| model.jobs[at].id.clone());
                assert_eq!(queue.drop_job(&id), at.is_some());
                at.map(|at| model.jobs.remove(at));
            }
            Op::Pass { ms } => model.now += ms,
            Op::Limit(limit) => model.settings.limit = *limit,
            Op::GroupLimit(limit) => model.settings.group_limit = *limit,
            Op::Rate(count) => {
                let rate = count.map(|count| Rate { count, per_ms: RATE_PER_MS });
                if rate != model.settings.rate {
                    model.taken.clear();
                }
                model.settings.rate = rate;
            }
            Op::MaxLen(max) => model.settings.max_len = *max,
            Op::Pause(paused) => model.settings.paused = *paused,
            Op::DeadKeep(ms) => model.settings.dead_keep_ms = *ms,
            Op::Restore => {
                let mut bytes = Vec::new();
                queue.encode(&mut bytes);
                queue = Queue::decode(&mut Reader::new(&bytes)).expect("its own form");
                let mut again = Vec::new();
                queue.encode(&mut again);
                assert_eq!(again, bytes, "the form of a queue survives");
            }
        }
        if *queue.settings() != model.settings {
            queue.set_settings(model.settings.clone());
        }
        model.settle();
        let mut steps = 0;
        while queue.settle(Millis(model.now), 2, &mut numbers).count > 0 {
            steps += 1;
            assert!(steps < 1_000, "it does not come to rest");
        }
        model.compare(&queue);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn behaves_as_the_model_under_any_operations(ops in prop::collection::vec(op(), 1..250)) {
        run(&ops);
    }
}

#[test]
fn damaged_forms_are_refused_or_read_without_a_panic() {
    let mut queue = Queue::default();
    let mut numbers = Numbers::default();
    for n in 0..6u64 {
        let options = Options { group: Some(group_name(n as u8 % 2)), ttl_ms: Some(9), ..Options::default() };
        let due = (n == 1).then_some(Millis(90));
        let options = Some(Arc::new(options));
        let new = NewJob { id: None, payload: b"p", dedup: Some((b"w", 5)), due, priority: n as u8, options };
        assert!(queue.add(&NewJob { dedup: None, ..new }, Millis(10 + n), &mut numbers).is_ok());
    }
    queue.take(b"worker", None, Millis(20), &mut numbers).expect("there are jobs");
    queue.set_settings(Settings { rate: Some(Rate { count: 3, per_ms: 100 }), ..Settings::default() });
    queue.take(b"worker", None, Millis(20), &mut numbers);
    let mut bytes = Vec::new();
    queue.encode(&mut bytes);
    for cut in 0..bytes.len() {
        assert!(Queue::decode(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let Ok(mut queue) = Queue::decode(&mut Reader::new(&flipped)) else { continue };
            queue.assert_invariants();
            // It goes on, whatever it is.
            numbers.raise(queue.newest());
            queue.settle(Millis(1_000_000), 100, &mut numbers);
            while queue.take(b"w", Some(1), Millis(1_000_000), &mut numbers).is_some() {}
            queue.settle(Millis(1_000_050), 100, &mut numbers);
            queue.assert_invariants();
        }
    }
}
