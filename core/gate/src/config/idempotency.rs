//! `idempotency` of a route: requests with a key are carried out once, and repeats get the first reply.

use skep_base::Micros;

use super::fields::{Fields, Section};
use super::scalar::{HeaderName, Size, words};

words! {
    /// What a repeat gets while the first is under way.
    Duplicate {
        /// It waits for the first one's reply.
        #[default]
        Wait = "wait",
        /// 409 at once.
        Conflict = "conflict",
    }
}

words! {
    /// What a repeat gets when whether the first ran is not known.
    Unknown {
        /// 409 that says so.
        #[default]
        Refuse = "refuse",
        /// It is sent again: the upstream honours the key itself.
        Repeat = "repeat",
    }
}

/// A route's idempotency keys.
#[derive(Clone, PartialEq, Debug)]
pub struct Idempotency {
    /// Whether a request without a key is 400; else it is carried out as on other routes.
    pub required: bool,
    /// Headers that tell callers apart: nobody gets another caller's reply by guessing a key.
    pub by: Vec<HeaderName>,
    /// How long a reply is kept.
    pub retention: Micros,
    pub duplicate: Duplicate,
    pub unknown: Unknown,
    /// A longer body is 413: it is held, and hashed, before the upstream is called.
    pub body_size: Size,
    /// A longer reply is passed on and not kept; repeats get 409.
    pub reply_size: Size,
    /// Statuses by which the upstream says that it did nothing, so that the key may be used again.
    pub release: Vec<u16>,
}

impl Default for Idempotency {
    fn default() -> Idempotency {
        Idempotency {
            required: false,
            by: vec![HeaderName("authorization".to_owned())],
            retention: Micros::from_secs(24 * 3_600),
            duplicate: Duplicate::Wait,
            unknown: Unknown::Refuse,
            body_size: Size(256 << 10),
            reply_size: Size(256 << 10),
            release: vec![408, 425, 429],
        }
    }
}

impl Section for Idempotency {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("required", &mut self.required);
        f.list("by", &mut self.by, 10);
        f.ranged("retention", &mut self.retention, Micros::from_secs(60)..=Micros::from_secs(31 * 86_400));
        f.one("duplicate", &mut self.duplicate);
        f.one("unknown", &mut self.unknown);
        f.ranged("body-size", &mut self.body_size, Size(0)..=Size(8 << 20));
        f.ranged("reply-size", &mut self.reply_size, Size(0)..=Size(8 << 20));
        f.list("release", &mut self.release, 50);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if let Some(status) = self.release.iter().find(|status| !(400..=599).contains(*status)) {
            wrong.push(("release", format!("holds {status}; it must be statuses of 400 to 599")));
        }
    }
}
