//! The kinds of value, how each is parsed from text and written back.

use std::net::SocketAddr;

use skep_base::number::parse_i64;

use crate::{BadValue, OutputLimits, Settings};

/// What a setting's value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`.
    YesNo,
    /// A whole number, `min` to `max`.
    Int { min: i64, max: i64 },
    /// A number of bytes with an optional unit, `min` to `max`.
    Bytes { min: u64, max: u64 },
    /// One of some words.
    Choice(&'static [&'static str]),
    /// The path of a directory.
    Dir,
    /// The path of a file, or empty.
    File,
    /// A name that appears in tables and metrics; may be empty.
    Label,
    /// A password, or empty. Never shown, never a flag.
    Secret,
    /// An address to listen on: `IP:PORT` or `localhost:PORT`.
    Listen,
    /// A host name or IP address without a port, or empty.
    Host,
    /// Addresses `HOST:PORT` with commas between, or empty.
    Peers,
    /// `client-output-buffer-limit`.
    OutputLimits,
    /// `save`: pairs of seconds and changes, or empty.
    SavePoints,
    /// `notify-keyspace-events`: letters of event classes, or empty.
    EventClasses,
    /// `latency-tracking-info-percentiles`: numbers from 0 to 100, or empty.
    Percentiles,
    /// Any text up to 1024 bytes, for settings that are only remembered.
    Text,
    /// Another spelling of the setting with this name.
    Alias(&'static str),
    /// Made from other settings when it is asked for.
    Derived(fn(&Settings) -> String),
}

/// A parsed value. Which variant a setting has follows from its [`Kind`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    YesNo(bool),
    Int(i64),
    Bytes(u64),
    /// The index of the word in [`Kind::Choice`].
    Choice(usize),
    Text(String),
    Listen(SocketAddr),
    Peers(Vec<String>),
    OutputLimits(OutputLimits),
    /// Aliases and derived settings hold nothing themselves.
    Nothing,
}

const TEXT_BYTES_MAX: usize = 1024;
/// As long as Linux lets a host name be, which is the default of `name`.
const LABEL_BYTES_MAX: usize = 64;
/// RFC 1035, section 2.3.4.
const HOST_BYTES_MAX: usize = 255;
/// As Redis limits it (`CONFIG_AUTHPASS_MAX_LEN` is 512); hashing more would only cost time.
const SECRET_BYTES_MAX: usize = 512;
/// Far above any meta group; keeps the text of a reply short.
const PEERS_MAX: usize = 64;

impl Kind {
    /// Parses `text`; `before` is the value that it replaces, which partly stays for `client-output-buffer-limit`.
    pub(crate) fn parse(&self, text: &str, before: Option<&Value>) -> Result<Value, BadValue> {
        match *self {
            Kind::YesNo => match text.to_ascii_lowercase().as_str() {
                "yes" => Ok(Value::YesNo(true)),
                "no" => Ok(Value::YesNo(false)),
                _ => Err(BadValue::NotYesNo),
            },
            Kind::Int { min, max } => {
                let value = parse_i64(text.as_bytes()).ok_or(BadValue::NotInteger)?;
                in_range(i128::from(value), i128::from(min), i128::from(max))?;
                Ok(Value::Int(value))
            }
            Kind::Bytes { min, max } => {
                let value = parse_bytes(text).ok_or(BadValue::NotBytes)?;
                in_range(i128::from(value), i128::from(min), i128::from(max))?;
                Ok(Value::Bytes(value))
            }
            Kind::Choice(words) => words
                .iter()
                .position(|word| word.eq_ignore_ascii_case(text))
                .map(Value::Choice)
                .ok_or(BadValue::NotChoice(words)),
            Kind::OutputLimits => {
                let before = match before {
                    Some(Value::OutputLimits(limits)) => *limits,
                    _ => OutputLimits::default(),
                };
                before.overlaid(text).map(Value::OutputLimits)
            }
            Kind::Listen => parse_listen(text).map(Value::Listen).ok_or(BadValue::Other("invalid address")),
            Kind::Peers => parse_peers(text).map(Value::Peers).ok_or(BadValue::Other("invalid addresses")),
            Kind::EventClasses => parse_event_classes(text).map(Value::Text),
            Kind::Percentiles => parse_percentiles(text).map(Value::Text),
            Kind::Alias(_) | Kind::Derived(_) => Ok(Value::Nothing),
            _ => self.parse_text(text).map(Value::Text),
        }
    }

    /// The kinds that keep their text as it is.
    fn parse_text(&self, text: &str) -> Result<String, BadValue> {
        let good = match self {
            Kind::Dir => !text.is_empty() && is_path(text),
            Kind::File => is_path(text),
            Kind::Label => text.is_empty() || is_word(text, LABEL_BYTES_MAX, b"-_."),
            Kind::Host => text.is_empty() || is_word(text, HOST_BYTES_MAX, b"-.:"),
            Kind::Secret => text.len() <= SECRET_BYTES_MAX,
            Kind::SavePoints => are_save_points(text),
            _ => text.len() <= TEXT_BYTES_MAX,
        };
        match (good, self) {
            (true, Kind::SavePoints) => Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
            (true, _) => Ok(text.to_owned()),
            (false, Kind::SavePoints) => Err(BadValue::Other("Invalid save parameters")),
            (false, Kind::Secret) => Err(BadValue::Other("Password is longer than 512 bytes")),
            (false, _) => Err(BadValue::Other("invalid value")),
        }
    }

    /// What a value may be, to follow "it must be".
    pub fn allowed(&self) -> String {
        match self {
            Kind::YesNo => "yes or no (in the file true or false)".to_owned(),
            Kind::Int { min, max: i64::MAX } => format!("a whole number, at least {min}"),
            Kind::Int { min, max } => format!("a whole number, {min} to {max}"),
            Kind::Bytes { min, max } => {
                let range = match (*min, *max) {
                    (0, u64::MAX) => String::new(),
                    (min, u64::MAX) => format!(", at least {}", human_bytes(min)),
                    (min, max) => format!(", {} to {}", human_bytes(min), human_bytes(max)),
                };
                format!("a number of bytes such as 1000, 64kb, 100mb or 2gb{range}")
            }
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Dir => "the path of a directory".to_owned(),
            Kind::File => "the path of a file".to_owned(),
            Kind::Label => format!("at most {LABEL_BYTES_MAX} letters, digits, `-`, `_` or `.`"),
            Kind::Secret => format!("at most {SECRET_BYTES_MAX} bytes"),
            Kind::Listen => "IP:PORT, such as 127.0.0.1:6379, [::1]:6379 or 0.0.0.0:6379".to_owned(),
            Kind::Host => "a host name or IP address without a port".to_owned(),
            Kind::Peers => format!("at most {PEERS_MAX} addresses HOST:PORT with commas between"),
            Kind::OutputLimits => {
                "`CLASS HARD SOFT SECONDS`, once or more, with CLASS normal, replica or pubsub, \
                 such as `normal 1gb 256mb 60`"
                    .to_owned()
            }
            Kind::SavePoints => "pairs of seconds and changes".to_owned(),
            Kind::EventClasses => format!("letters of {EVENT_CLASSES}"),
            Kind::Percentiles => "numbers from 0 to 100 with blanks between".to_owned(),
            Kind::Text => format!("at most {TEXT_BYTES_MAX} bytes"),
            Kind::Alias(name) => format!("as `{name}`"),
            Kind::Derived(_) => "left alone".to_owned(),
        }
    }

    /// `value` as `CONFIG GET` shows it.
    pub(crate) fn text(&self, value: &Value) -> String {
        match (value, self) {
            (Value::YesNo(yes), _) => if *yes { "yes" } else { "no" }.to_owned(),
            (Value::Int(n), _) => n.to_string(),
            (Value::Bytes(n), _) => n.to_string(),
            (Value::Choice(at), Kind::Choice(words)) => words[*at].to_owned(),
            (Value::Text(text), _) => text.clone(),
            (Value::Listen(addr), _) => addr.to_string(),
            (Value::Peers(peers), _) => peers.join(","),
            (Value::OutputLimits(limits), _) => limits.text(),
            (value, kind) => panic!("{value:?} cannot be the value of a setting of kind {kind:?}"),
        }
    }
}

fn in_range(value: i128, min: i128, max: i128) -> Result<(), BadValue> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(BadValue::OutOfRange { min, max }) }
}

/// Parses a number of bytes with Redis's units, in either case: `k`, `m`, `g` count in thousands, `kb`, `mb`, `gb` in
/// 1024s, `b` and nothing are bytes. `None` if it is no such number or above 2^64 - 1.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit: u64 = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// `n` with the greatest unit that leaves a whole number: `64mb`, `1000`. [`parse_bytes`] reads it back.
pub fn human_bytes(n: u64) -> String {
    match n {
        n if n > 0 && n.is_multiple_of(1 << 30) => format!("{}gb", n >> 30),
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{}mb", n >> 20),
        n if n > 0 && n.is_multiple_of(1 << 10) => format!("{}kb", n >> 10),
        n => n.to_string(),
    }
}

fn parse_listen(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

fn parse_peers(text: &str) -> Option<Vec<String>> {
    let peers: Vec<&str> = text.split(',').map(str::trim).filter(|peer| !peer.is_empty()).collect();
    if peers.len() > PEERS_MAX || peers.is_empty() && !text.is_empty() {
        return None;
    }
    peers.into_iter().map(|peer| is_peer(peer).then(|| peer.to_owned())).collect()
}

/// `host:port` or `[ip6]:port`, with a port that can be connected to.
fn is_peer(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_good = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_word(host, HOST_BYTES_MAX, b"-."),
    };
    host_is_good && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_path(text: &str) -> bool {
    // PATH_MAX of Linux.
    text.len() < 4096 && !text.contains('\0')
}

fn is_word(text: &str, bytes_max: usize, punctuation: &[u8]) -> bool {
    (1..=bytes_max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || punctuation.contains(&b))
}

fn are_save_points(text: &str) -> bool {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.len() <= TEXT_BYTES_MAX
        && words.len().is_multiple_of(2)
        && words.chunks_exact(2).all(|pair| {
            pair[0].parse::<u32>().is_ok_and(|seconds| seconds > 0) && pair[1].parse::<u32>().is_ok()
        })
}

/// Puts one blank between the numbers, each as short as it can be.
fn parse_percentiles(text: &str) -> Result<String, BadValue> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(BadValue::Other("invalid value"));
    }
    let mut numbers = Vec::new();
    for word in text.split_ascii_whitespace() {
        let number: f64 = word
            .parse()
            .map_err(|_| BadValue::Other("Invalid latency-tracking-info-percentiles parameters"))?;
        if !(0.0..=100.0).contains(&number) {
            let text = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
            return Err(BadValue::Other(text));
        }
        numbers.push(number.to_string());
    }
    Ok(numbers.join(" "))
}

/// Every letter of `notify-keyspace-events`, in the order in which Redis 7 names them.
const EVENT_CLASSES: &str = "Ag$lshzxeKEtmdn";
/// The classes that `A` stands for, in the order in which Redis 7 writes them back.
const EVENT_CLASSES_OF_A: &str = "g$lshzxetd";

/// Puts the letters of `notify-keyspace-events` in the one order in which `CONFIG GET` shows them: `KEA` is `AKE`.
fn parse_event_classes(text: &str) -> Result<String, BadValue> {
    if !text.chars().all(|c| EVENT_CLASSES.contains(c)) {
        return Err(BadValue::Other("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."));
    }
    let given = |c: char| text.contains(c) || text.contains('A') && EVENT_CLASSES_OF_A.contains(c);
    let mut out = String::new();
    if EVENT_CLASSES_OF_A.chars().all(given) {
        out.push('A');
    } else {
        out.extend(EVENT_CLASSES_OF_A.chars().filter(|c| given(*c)));
    }
    // Redis leaves `n` out beside `A`, and then it is lost when the value is set again.
    out.extend("nKEm".chars().filter(|c| given(*c)));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_units_of_redis() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1k", Some(1000)),
            ("1kB", Some(1024)),
            ("2M", Some(2_000_000)),
            ("2mb", Some(2 << 20)),
            ("3g", Some(3_000_000_000)),
            ("3gb", Some(3 << 30)),
            ("7b", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999gb", None),
            ("1.5gb", None),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("mb", None),
            ("1 mb", None),
            ("1tb", None),
            ("100%", None),
            ("1é", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_checked() {
        for (text, good) in [
            ("127.0.0.1:6379", true),
            ("[::1]:0", true),
            ("localhost:6379", true),
            ("0.0.0.0:65536", false),
            ("6379", false),
            (":6379", false),
            ("example.org:6379", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(parse_listen(text).is_some(), good, "{text}");
        }
        for (text, count) in [
            ("", Some(0)),
            ("a:1", Some(1)),
            ("a:1, b.example:2,[::1]:3", Some(3)),
            ("a:1,", Some(1)),
            (",", None),
            ("a", None),
            ("a:0", None),
            ("a:70000", None),
            ("a b:1", None),
            ("::1:7", None),
        ] {
            assert_eq!(parse_peers(text).map(|p| p.len()), count, "{text}");
        }
    }

    #[test]
    fn event_classes_have_one_order() {
        for (text, expected) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Elg", "glE"),
            ("g$lshzxetdK", "AK"),
            ("nA", "An"),
            ("mm", "m"),
            ("KEn", "nKE"),
            ("mEgn", "gnEm"),
        ] {
            assert_eq!(parse_event_classes(text).unwrap(), expected, "{text}");
        }
        assert!(parse_event_classes("q").is_err());
    }
}
