//! Whether a request may be sent again, and after what time.
//!
//! INV-GATE-7: a request that may have been carried out is sent again only if its route says that it may be repeated. What
//! is not known to have not run may have run.

use skep_base::{Micros, Rng};

use crate::config::resilience::{Failing, Repeat, Retry};

/// How an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// There was no connection, or it ended before a byte of the request was written, or the upstream said that it did not
    /// touch the request (HTTP/2 REFUSED_STREAM, or GOAWAY below its number; RFC 9113, section 8.7).
    NotSent,
    /// The upstream announces that it takes no such request, which was not sent: a WebSocket, over HTTP/2. It is not to blame.
    NotTaken,
    /// The connection broke after a part of the request was written.
    Reset,
    /// No reply in time.
    Timeout,
    /// A reply with this status, of which nothing was given on.
    Status { status: u16, retry_after: Option<Micros> },
    /// The reply broke after its head was given on to the client.
    Broken,
}

impl Failure {
    /// True if a part of the request may have reached the upstream.
    pub fn was_sent(self) -> bool {
        !matches!(self, Failure::NotSent | Failure::NotTaken)
    }
}

/// What of a request decides whether it may be repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traits {
    /// The method is safe or idempotent (RFC 9110, section 9.2.2): see [`is_idempotent`].
    pub idempotent: bool,
    /// It has an `Idempotency-Key`.
    pub keyed: bool,
    /// All of the body that was sent is still there to be sent again.
    pub replayable: bool,
}

/// Why a request is not sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Final {
    /// The route has no retries.
    Off,
    /// The failure is none that the route retries.
    NotListed,
    /// A part of the reply is with the client.
    Answered,
    /// It may have run, and may not be repeated.
    MayHaveRun,
    /// Its body is gone.
    BodyGone,
    /// It was sent as often as the route allows.
    Attempts,
    /// Another gateway in front sends it again.
    Nested,
    /// The route's budget, or the pool's limit of retries, is used up.
    Budget,
    /// The deadline comes first.
    Deadline,
    /// No other upstream can take it.
    NoUpstream,
}

/// True for methods that mean the same twice.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// True if the route counts `failure` as one of `list`.
pub fn is_listed(list: &[Failing], failure: Failure) -> bool {
    list.iter().any(|failing| match failure {
        Failure::NotSent => *failing == Failing::Connect,
        Failure::NotTaken => false,
        Failure::Reset | Failure::Broken => *failing == Failing::Reset,
        Failure::Timeout => *failing == Failing::Timeout,
        Failure::Status { status, .. } => failing.is_status(status),
    })
}

/// Says whether the failed attempt may be followed by another as far as the request goes; budgets and time are asked
/// later.
///
/// # Errors
/// Why not.
pub fn may_repeat(rule: Option<&Retry>, traits: Traits, failure: Failure) -> Result<(), Final> {
    let rule = rule.ok_or(Final::Off)?;
    if failure == Failure::Broken {
        return Err(Final::Answered);
    }
    let not_run = match failure {
        Failure::NotSent | Failure::NotTaken => true,
        Failure::Status { status, .. } => rule.not_run.contains(&status),
        _ => false,
    };
    if !is_listed(&rule.on, failure) && !not_run {
        return Err(Final::NotListed);
    }
    if !not_run && !may_run_twice(rule, traits) {
        return Err(Final::MayHaveRun);
    }
    // Without a byte written the body is whole, whatever its length.
    if failure.was_sent() && !traits.replayable {
        return Err(Final::BodyGone);
    }
    Ok(())
}

/// True if the request may be carried out twice.
pub fn may_run_twice(rule: &Retry, traits: Traits) -> bool {
    match rule.repeat {
        Repeat::Idempotent => traits.idempotent,
        Repeat::Key => traits.idempotent || traits.keyed,
        Repeat::Always => true,
        Repeat::Never => false,
    }
}

/// The wait before attempt `attempt` (from 1, so the first retry is 2): full jitter (AWS Architecture Blog, 2015), but not
/// less than the upstream asked for.
pub fn back_off(rule: &Retry, attempt: u32, failure: Failure, rng: &mut Rng) -> Micros {
    let doubled = rule.back_off.0.saturating_mul(1 << attempt.saturating_sub(2).min(32));
    let most = doubled.min(rule.back_off_max.0);
    let wait = Micros(rng.below(most.saturating_add(1)));
    match failure {
        Failure::Status { retry_after: Some(asked), .. } => wait.max(asked),
        _ => wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Traits = Traits { idempotent: true, keyed: false, replayable: true };
    const POST: Traits = Traits { idempotent: false, ..PLAIN };
    const KEYED: Traits = Traits { keyed: true, ..POST };
    const GONE: Traits = Traits { replayable: false, ..PLAIN };

    fn status(status: u16) -> Failure {
        Failure::Status { status, retry_after: None }
    }

    #[test]
    fn only_what_did_not_run_or_may_run_twice_is_sent_again() {
        let rule = |repeat| Retry { repeat, not_run: vec![429], ..Retry::default() };
        use Repeat::{Always, Idempotent, Key, Never};
        for (repeat, traits, failure, expected) in [
            (Idempotent, PLAIN, Failure::NotSent, Ok(())),
            (Idempotent, POST, Failure::NotSent, Ok(())),
            (Never, POST, Failure::NotSent, Ok(())),
            (Idempotent, GONE, Failure::NotSent, Ok(())),
            (Never, GONE, Failure::NotTaken, Ok(())),
            (Idempotent, PLAIN, Failure::Reset, Ok(())),
            (Idempotent, PLAIN, Failure::Timeout, Ok(())),
            (Idempotent, PLAIN, status(503), Ok(())),
            (Idempotent, POST, Failure::Reset, Err(Final::MayHaveRun)),
            (Idempotent, POST, Failure::Timeout, Err(Final::MayHaveRun)),
            (Idempotent, POST, status(503), Err(Final::MayHaveRun)),
            (Idempotent, KEYED, Failure::Reset, Err(Final::MayHaveRun)),
            (Key, KEYED, Failure::Reset, Ok(())),
            (Key, POST, Failure::Reset, Err(Final::MayHaveRun)),
            (Always, POST, Failure::Timeout, Ok(())),
            (Never, PLAIN, Failure::Reset, Err(Final::MayHaveRun)),
            (Idempotent, POST, status(429), Ok(())),
            (Idempotent, GONE, Failure::Reset, Err(Final::BodyGone)),
            (Always, GONE, status(429), Err(Final::BodyGone)),
            (Always, PLAIN, status(500), Err(Final::NotListed)),
            (Always, PLAIN, status(404), Err(Final::NotListed)),
            (Always, PLAIN, Failure::Broken, Err(Final::Answered)),
        ] {
            let found = may_repeat(Some(&rule(repeat)), traits, failure);
            assert_eq!(found, expected, "{repeat:?} {traits:?} {failure:?}: INV-GATE-7");
        }
        assert_eq!(may_repeat(None, PLAIN, Failure::NotSent), Err(Final::Off));
    }

    #[test]
    fn waits_are_spread_over_all_of_a_doubling_range_and_bounded() {
        let (rule, mut rng) = (Retry::default(), Rng::new(1));
        for (attempt, most) in [(2, 25_000), (3, 50_000), (4, 100_000), (9, 1_000_000), (99, 1_000_000)] {
            let waits: Vec<u64> =
                (0..4_000).map(|_| back_off(&rule, attempt, Failure::Reset, &mut rng).0).collect();
            let mean = waits.iter().sum::<u64>() as f64 / 4_000.0;
            assert!((mean / f64::from(most) - 0.5).abs() < 0.03, "{attempt}: {mean}");
            assert!(
                waits.iter().max() <= Some(&u64::from(most as u32))
                    && waits.iter().min() < Some(&(most as u64 / 100))
            );
        }
        let asked = Failure::Status { status: 503, retry_after: Some(Micros::from_secs(3)) };
        assert_eq!(back_off(&rule, 2, asked, &mut rng), Micros::from_secs(3));
    }
}
