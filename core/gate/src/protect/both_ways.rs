//! What a request's body and its reply know of each other: when either last said something, and whom it speaks against that neither does.
//!
//! While a reply is under way and its request is not over the two are one conversation, as over a WebSocket: a client of gRPC that only
//! listens is not too slow, nor is an upstream that only takes.

use skep_base::Micros;

use crate::resilience::retry::Failure;

/// The two directions of a request with a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BothWays {
    /// When either said something last, since the reply began.
    said: Micros,
    /// How long both may be silent, while a reply is under way and the client has not said all.
    idle: Option<Micros>,
    ended: bool,
    /// The client's side has failed.
    failed: bool,
    /// More of the body is asked for.
    asks: bool,
    /// The upstream has not taken all that came of it.
    holds: bool,
}

impl BothWays {
    /// The client's side has failed.
    pub fn fail(&mut self) {
        self.failed = true;
        self.end();
    }

    /// A reply is under way, which with the request may be silent for `idle`.
    pub fn begin(&mut self, now: Micros, idle: Micros) {
        self.said = now;
        self.idle = Some(idle).filter(|_| !self.ended);
    }

    /// True while both count for each other; else each counts its own time.
    pub fn is_conversation(&self) -> bool {
        self.idle.is_some()
    }

    /// More of the body is wanted than there is.
    pub fn ask(&mut self) {
        self.asks = true;
    }

    /// There is something of the body that the upstream does not take; or, `holds` being false, no more.
    pub fn hold(&mut self, holds: bool) {
        self.holds = holds;
    }

    /// The client has said nothing for as long as it may. If it is the upstream that takes nothing of what is there, and says nothing
    /// itself, their conversation ends, and the client has not failed.
    pub fn client_is_late(&mut self) {
        match self.is_conversation() && self.holds {
            true => self.end(),
            false => self.fail(),
        }
    }

    /// The client said something.
    pub fn client_says(&mut self, now: Micros) {
        (self.said, self.asks) = (now, false);
    }

    /// The upstream said something.
    pub fn upstream_says(&mut self, now: Micros) {
        self.said = now;
    }

    /// One of the two has said all: the other is alone.
    pub fn end(&mut self) {
        (self.ended, self.idle) = (true, None);
    }

    /// Until when one that is silent may be so, because the other was not; none if its time is over.
    pub fn patience(&self, now: Micros) -> Option<Micros> {
        let until = self.said.plus(self.idle?);
        (until > now).then_some(until)
    }

    /// Whether it speaks against the upstream that its reply broke so. Where both were silent it does only if the client was not asked
    /// for more, or the upstream has not even taken what there is.
    pub fn blames_upstream(&self, failure: Failure) -> bool {
        let both_silent = failure == Failure::Timeout && self.is_conversation();
        !(self.failed || both_silent && self.asks && !self.holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Micros = Micros(100);

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Begin,
        Ask,
        Client,
        Upstream,
        End,
        Fail,
        Hold,
        Taken,
        Late,
    }
    use Event::*;

    fn after(events: &[(u64, Event)]) -> BothWays {
        let mut ways = BothWays::default();
        for (now, event) in events {
            match event {
                Begin => ways.begin(Micros(*now), IDLE),
                Ask => ways.ask(),
                Client => ways.client_says(Micros(*now)),
                Upstream => ways.upstream_says(Micros(*now)),
                End => ways.end(),
                Fail => ways.fail(),
                Hold => ways.hold(true),
                Taken => ways.hold(false),
                Late => ways.client_is_late(),
            }
        }
        ways
    }

    #[test]
    fn one_may_be_silent_while_the_other_is_not_and_the_request_is_not_over() {
        for (events, until) in [
            (&[(0, Client)][..], None),
            (&[(0, Client), (10, Begin)], Some(110)),
            (&[(10, Begin), (60, Client)], Some(160)),
            (&[(10, Begin), (60, Client), (70, Upstream)], Some(170)),
            (&[(10, Begin), (60, Upstream), (70, Ask)], Some(160)),
            (&[(10, Begin), (60, Client), (70, End)], None),
            (&[(10, Begin), (60, Fail)], None),
            (&[(0, End), (10, Begin)], None),
        ] {
            let ways = after(events);
            assert_eq!(ways.patience(Micros(100)), until.map(Micros), "{events:?}");
            assert_eq!(ways.patience(Micros(170)), None, "{events:?}");
        }
    }

    #[test]
    fn that_both_are_silent_speaks_against_nobody() {
        let (late, reset) = (Failure::Timeout, Failure::Reset);
        for (events, failure, blames) in [
            // The upstream waits for the client as much as the client for the upstream, whosever time is over first.
            (&[(0, Ask), (0, Begin)][..], late, false),
            (&[(0, Begin), (5, Client), (5, Ask), (9, Upstream)], late, false),
            // It has not taken what there is, whosever time is over first, and be more asked for or not.
            (&[(0, Begin)], late, true),
            (&[(0, Ask), (0, Hold), (0, Begin)], late, true),
            (&[(0, Ask), (0, Hold), (0, Begin), (100, Late)], reset, true),
            (&[(0, Ask), (0, Hold), (0, Begin), (9, Taken)], late, false),
            (&[(0, Ask), (0, Hold), (0, Begin), (9, Taken), (109, Late)], reset, false),
            // Without a reply the client's time is its own.
            (&[(0, Ask), (0, Hold), (100, Late)], reset, false),
            (&[(0, Begin), (5, Ask), (6, Client)], late, true),
            // The request is over, or no reply has begun: the client's silence was told before.
            (&[(0, Ask), (0, Begin), (5, Client), (5, End)], late, true),
            (&[(0, Ask)], late, true),
            // It broke off.
            (&[(0, Ask), (0, Begin)], reset, true),
            // The client's side was first.
            (&[(0, Ask), (0, Begin), (9, Fail)], late, false),
            (&[(0, Begin), (9, Fail)], reset, false),
        ] {
            assert_eq!(after(events).blames_upstream(failure), blames, "{failure:?} after {events:?}");
        }
    }
}
