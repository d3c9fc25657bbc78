//! `idempotency` of a route: requests with a key are carried out once, and repeats get the first reply.

use skep_base::Micros;
use toml::de::DeValue;

use super::fields::{Fields, Scalar, Section};
use super::scalar::{HeaderName, Parameter, Size, quoted, words};

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

/// What tells callers apart.
#[derive(Clone, PartialEq, Debug)]
pub enum Teller {
    Header(HeaderName),
    /// One cookie: the others may change between a request and its repeat.
    Cookie(Parameter),
}

impl Scalar for Teller {
    fn form() -> String {
        "the name of a header, such as x-account, or cookie:NAME".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Teller> {
        match value.as_str()?.split_once(':') {
            None => HeaderName::read(value).map(Teller::Header),
            Some(("cookie", name)) => {
                Parameter::read(&DeValue::String(name.to_owned().into())).map(Teller::Cookie)
            }
            Some(_) => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Teller::Header(name) => name.show(),
            Teller::Cookie(name) => quoted(&format!("cookie:{}", name.0)),
        }
    }
}

/// A route's idempotency keys.
#[derive(Clone, PartialEq, Debug)]
pub struct Idempotency {
    /// Whether a request without a key is 400; else it is carried out as on other routes.
    pub required: bool,
    /// Headers and cookies that tell callers apart: nobody gets another caller's reply by guessing a key.
    pub by: Vec<Teller>,
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
            by: vec![Teller::Header(HeaderName("authorization".to_owned()))],
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
