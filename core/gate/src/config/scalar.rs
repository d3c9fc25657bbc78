//! Values of the configuration that have one text form: times, sizes, shares, names of headers, patterns.

use skep_base::Micros;
use skep_settings::{human_bytes, parse_bytes};
use toml::de::DeValue;

use super::fields::Scalar;

/// The longest text of a value. An answer's body is the largest thing that is written into a configuration.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;
/// A compiled pattern may take this much memory; more is a mistake or an attack.
pub(crate) const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A text as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let n = value.as_integer()?;
    i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok()
}

impl Scalar for bool {
    fn form() -> String {
        "true or false".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<bool> {
        value.as_bool()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            fn form() -> String {
                format!("a whole number, at most {}", <$type>::MAX)
            }

            fn read(value: &DeValue<'_>) -> Option<$type> {
                integer(value)?.try_into().ok()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_number!(u16, u32);

impl Scalar for i32 {
    fn form() -> String {
        "a whole number".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<i32> {
        integer(value)?.try_into().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

const UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Scalar for Micros {
    fn form() -> String {
        "a time such as 250ms, 5s, 2min or 1h".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Micros> {
        let text = value.as_str()?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = UNITS.iter().find(|(unit, _)| *unit == &text[digits..])?.1;
        text[..digits].parse::<u64>().ok()?.checked_mul(unit).map(Micros)
    }

    fn show(&self) -> String {
        let (unit, size) =
            UNITS.iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size)).unwrap_or(&("s", 1));
        format!("\"{}{unit}\"", self.0 / size)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Size(pub u64);

impl Scalar for Size {
    fn form() -> String {
        "a size such as 64kb or 1mb".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Size> {
        match value {
            DeValue::String(text) => parse_bytes(text).map(Size),
            other => integer(other)?.try_into().ok().map(Size),
        }
    }

    fn show(&self) -> String {
        format!("\"{}\"", human_bytes(self.0))
    }
}

/// A part of a whole, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share(pub u32);

impl Share {
    pub const ALL: Share = Share(1_000_000);

    pub const fn percent(n: u32) -> Share {
        Share(n * 10_000)
    }

    /// 0.2 for 20 %.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Scalar for Share {
    fn form() -> String {
        "a share such as 20% or 0.5%".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Share> {
        let (whole, part) = match value.as_str()?.strip_suffix('%')?.split_once('.') {
            Some((whole, part)) if (1..=4).contains(&part.len()) => (whole, part),
            Some(_) => return None,
            None => (value.as_str()?.strip_suffix('%')?, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        format!("{whole}{part:0<4}").parse().ok().map(Share)
    }

    fn show(&self) -> String {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        match part {
            0 => format!("\"{whole}%\""),
            part => format!("\"{whole}.{}%\"", format!("{part:04}").trim_end_matches('0')),
        }
    }
}

impl Scalar for String {
    fn form() -> String {
        format!("a text of at most {TEXT_BYTES_MAX} bytes")
    }

    fn read(value: &DeValue<'_>) -> Option<String> {
        value.as_str().filter(|text| text.len() <= TEXT_BYTES_MAX).map(str::to_owned)
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

/// Declares texts of a certain form, kept as they are written.
macro_rules! text_forms {
    ($($(#[$doc:meta])* $name:ident, $form:literal, $accepts:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub String);

        impl Scalar for $name {
            fn form() -> String {
                $form.to_owned()
            }

            fn read(value: &DeValue<'_>) -> Option<$name> {
                let accepts: fn(&str) -> Option<String> = $accepts;
                accepts(value.as_str().filter(|text| text.len() <= $crate::config::scalar::TEXT_BYTES_MAX)?).map($name)
            }

            fn show(&self) -> String {
                quoted(&self.0)
            }
        }
    )*};
}
pub(super) use text_forms;

text_forms! {
    /// The name of a header, in lower case (RFC 9110, section 5.1).
    HeaderName, "the name of a header, such as x-user", |text| {
        (!text.is_empty() && text.bytes().all(is_token_byte)).then(|| text.to_ascii_lowercase())
    };
    /// The value of a header: no line break can be smuggled in with it (RFC 9110, section 5.5).
    HeaderValue, "the value of a header, without control characters", |text| {
        (!text.chars().any(|c| c.is_control() && c != '\t') && text.trim() == text).then(|| text.to_owned())
    };
    /// A request method, in capitals.
    Method, "a method in capitals, such as GET", |text| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')).then(|| text.to_owned())
    };
    /// A protocol to which a connection may change (RFC 9110, section 7.8), in lower case. Not HTTP itself: requests of which the
    /// gateway sees nothing would pass all that routes ask.
    UpgradeTo, "a protocol other than HTTP, such as websocket", |text| {
        let name = text.to_ascii_lowercase();
        let is_form = !name.is_empty() && name.bytes().all(|b| is_token_byte(b) || b == b'/');
        let is_http = ["h2", "h3", "http", "tls"].iter().any(|http| name.starts_with(http));
        (is_form && !is_http).then_some(name)
    };
    /// The name of a query parameter or cookie.
    Parameter, "the name of a query parameter or cookie", |text| {
        (!text.is_empty() && text.bytes().all(is_token_byte)).then(|| text.to_owned())
    };
    /// A path in the form in which requests are compared: see [`crate::router::normal_path`].
    PathText, "a path that begins with / and holds no ?, # or dot segments, such as /v1/orders", |text| {
        let normal = crate::router::normal_path(text).ok()?;
        http::uri::PathAndQuery::try_from(&*normal).ok()?;
        (!text.contains(['?', '#'])).then(|| normal.into_owned())
    };
    /// A regular expression; it must match the whole of a text.
    Pattern, "a regular expression that compiles to at most 1 MiB, such as /v[0-9]+/users", |text| {
        compile_pattern(text).ok().map(|_| text.to_owned())
    };
    /// What a host must be: `api.example.com`, or any name below one: `*.example.com`. In lower case.
    HostPattern, "a host name, or *. and a host name, without a port", |text| {
        let name = text.strip_prefix("*.").unwrap_or(text);
        crate::router::is_host(name).then(|| text.to_ascii_lowercase())
    };
    /// Where an upstream is: `10.0.0.1:8080`, `[::1]:8080` or `orders.internal:8080`.
    Address, "an address with a port, such as 10.0.0.1:8080 or orders.internal:8080", |text| {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_host = match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => crate::router::is_host(host),
        };
        (is_host && port.parse::<u16>().is_ok_and(|p| p > 0)).then(|| text.to_ascii_lowercase())
    };
    /// Where a listener listens.
    ListenAddress, "an address of this machine with a port, such as 0.0.0.0:8080", |text| {
        text.parse::<std::net::SocketAddr>().is_ok().then(|| text.to_owned())
    };
}

impl Address {
    /// The name and the port; none if it is no name that would be looked up.
    pub fn name(&self) -> Option<(&str, u16)> {
        if self.0.parse::<std::net::SocketAddr>().is_ok() {
            return None;
        }
        let (name, port) = self.0.rsplit_once(':')?;
        Some((name, port.parse().ok()?))
    }
}

/// A pattern as the router uses it: anchored at both ends, on bytes, without Unicode classes.
pub(crate) fn compile_pattern(text: &str) -> Result<regex::bytes::Regex, regex::Error> {
    regex::bytes::RegexBuilder::new(&anchored(text)).unicode(false).size_limit(PATTERN_BYTES_MAX).build()
}

pub(crate) fn anchored(text: &str) -> String {
    format!("^(?:{text})$")
}

/// The bytes of a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// What the value of a header, query parameter or cookie must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Test {
    /// It is there, with any value.
    Present,
    /// It is not there.
    Absent,
    /// It is exactly this.
    Is(String),
    /// The pattern matches all of it.
    Matches(Pattern),
}

impl Scalar for Test {
    fn form() -> String {
        "a text to be equal to, * for any, !* for none, or ~ and a regular expression".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Test> {
        match value.as_str()? {
            "*" => Some(Test::Present),
            "!*" => Some(Test::Absent),
            text => match text.strip_prefix('~') {
                Some(pattern) => {
                    compile_pattern(pattern).ok().map(|_| Test::Matches(Pattern(pattern.to_owned())))
                }
                None => HeaderValue::read(value).map(|text| Test::Is(text.0)),
            },
        }
    }

    fn show(&self) -> String {
        match self {
            Test::Present => quoted("*"),
            Test::Absent => quoted("!*"),
            Test::Is(text) => quoted(text),
            Test::Matches(pattern) => quoted(&format!("~{}", pattern.0)),
        }
    }
}

/// What of a request tells one caller, session or object from another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum KeyOf {
    /// The client's address, behind trusted proxies.
    #[default]
    Source,
    Host,
    Path,
    /// Who proved to call ([`crate::auth`]).
    Caller,
    Header(HeaderName),
    Cookie(Parameter),
    Query(Parameter),
}

impl Scalar for KeyOf {
    fn form() -> String {
        "source, caller, host, path, header:NAME, cookie:NAME or query:NAME".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<KeyOf> {
        let text = value.as_str()?;
        let name = |name: &str| DeValue::String(name.to_owned().into());
        match text.split_once(':') {
            Some(("header", n)) => HeaderName::read(&name(n)).map(KeyOf::Header),
            Some(("cookie", n)) => Parameter::read(&name(n)).map(KeyOf::Cookie),
            Some(("query", n)) => Parameter::read(&name(n)).map(KeyOf::Query),
            Some(_) => None,
            None => match text {
                "source" => Some(KeyOf::Source),
                "host" => Some(KeyOf::Host),
                "path" => Some(KeyOf::Path),
                "caller" => Some(KeyOf::Caller),
                _ => None,
            },
        }
    }

    fn show(&self) -> String {
        match self {
            KeyOf::Source => quoted("source"),
            KeyOf::Host => quoted("host"),
            KeyOf::Path => quoted("path"),
            KeyOf::Caller => quoted("caller"),
            KeyOf::Header(name) => quoted(&format!("header:{}", name.0)),
            KeyOf::Cookie(name) => quoted(&format!("cookie:{}", name.0)),
            KeyOf::Query(name) => quoted(&format!("query:{}", name.0)),
        }
    }
}

/// Declares an enum whose variants are words of the configuration.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $crate::config::fields::Scalar for $name {
            fn form() -> String {
                [$($word),*].join(", ")
            }

            fn read(value: &toml::de::DeValue<'_>) -> Option<$name> {
                match value.as_str()? {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }

            fn show(&self) -> String {
                match self {
                    $($name::$variant => format!("\"{}\"", $word),)*
                }
            }
        }
    )*};
}
pub(crate) use words;
