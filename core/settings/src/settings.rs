//! [`Settings`]: a value for every row of the table, and typed accessors for those that do something.

use std::fmt;
use std::net::SocketAddr;

use crate::spec::{index_of, position};
use crate::{Kind, OutputLimits, SETTINGS, SettingError, SettingSpec, Value};

/// The settings of one node.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// In the order of [`SETTINGS`].
    values: Vec<Value>,
}

/// When a write is answered (`durability`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// After it is on the disk: an answered write survives a power cut.
    Disk,
    /// After it is in memory; the disk follows. A power cut or kill loses the last moments.
    Memory,
}

/// Log lines of lower importance are not written (`log-level`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The form of log lines (`log-format`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Settings {
    /// Every setting at its default.
    ///
    /// # Panics
    /// If a default in the table is not valid.
    fn default() -> Settings {
        let values = SETTINGS.iter().map(|spec| match spec.kind.parse(spec.default, None) {
            Ok(value) => value,
            Err(why) => panic!("default {:?} of {} is refused: {why:?}", spec.default, spec.name),
        });
        Settings { values: values.collect() }
    }
}

impl Settings {
    /// Gives `name` the value that `text` stands for, whatever the row says about when it may change (compare
    /// [`Settings::config_set`]). An alias sets what it stands for.
    ///
    /// # Errors
    /// [`SettingError::Unknown`], [`SettingError::Bad`], and [`SettingError::Immutable`] for what is derived from other
    /// settings; nothing has changed.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), SettingError> {
        let (at, spec) = resolve(name)?;
        if matches!(spec.kind, Kind::Derived(_)) {
            return Err(SettingError::Immutable { name: spec.name });
        }
        match spec.kind.parse(text, Some(&self.values[at])) {
            Ok(value) => {
                self.values[at] = value;
                Ok(())
            }
            Err(why) => Err(SettingError::Bad { name: find_name(name, spec), value: text.to_owned(), why }),
        }
    }

    /// The value of `name` as `CONFIG GET` shows it (sizes in bytes); `None` if there is no such setting.
    pub fn get(&self, name: &str) -> Option<String> {
        position(name).map(|at| self.text_at(at))
    }

    pub(crate) fn text_at(&self, at: usize) -> String {
        match SETTINGS[at].kind {
            Kind::Alias(of) => self.get(of).expect("an alias names a row of the table"),
            Kind::Derived(make) => make(self),
            kind => kind.text(&self.values[at]),
        }
    }

    /// Takes over one value of `other`.
    pub(crate) fn take_from(&mut self, other: &Settings, at: usize) {
        self.values[at].clone_from(&other.values[at]);
    }

    pub(crate) fn names_that_differ(&self, other: &Settings) -> Vec<&'static str> {
        let pairs = self.values.iter().zip(&other.values);
        SETTINGS.iter().zip(pairs).filter(|(_, (a, b))| a != b).map(|(spec, _)| spec.name).collect()
    }

    fn yes_no(&self, at: usize) -> bool {
        match self.values[at] {
            Value::YesNo(yes) => yes,
            ref other => panic!("{} is {other:?}, not yes or no", SETTINGS[at].name),
        }
    }

    fn int(&self, at: usize) -> u64 {
        match self.values[at] {
            Value::Int(n) => u64::try_from(n).expect("the range of settings with accessors starts at 0"),
            Value::Bytes(n) => n,
            ref other => panic!("{} is {other:?}, not a number", SETTINGS[at].name),
        }
    }

    fn int_signed(&self, at: usize) -> i64 {
        match self.values[at] {
            Value::Int(n) => n,
            ref other => panic!("{} is {other:?}, not an integer", SETTINGS[at].name),
        }
    }

    fn u32(&self, at: usize) -> u32 {
        u32::try_from(self.int(at)).expect("the range of settings with this accessor ends below 2^32")
    }

    fn choice(&self, at: usize) -> usize {
        match self.values[at] {
            Value::Choice(index) => index,
            ref other => panic!("{} is {other:?}, not a choice", SETTINGS[at].name),
        }
    }

    fn text(&self, at: usize) -> &str {
        match &self.values[at] {
            Value::Text(text) => text,
            other => panic!("{} is {other:?}, not a text", SETTINGS[at].name),
        }
    }

    fn listen_at(&self, at: usize) -> SocketAddr {
        match self.values[at] {
            Value::Listen(addr) => addr,
            ref other => panic!("{} is {other:?}, not an address", SETTINGS[at].name),
        }
    }
}

/// The row that `name` sets: itself, or what it is an alias of.
fn resolve(name: &str) -> Result<(usize, &'static SettingSpec), SettingError> {
    let unknown = || SettingError::Unknown { name: name.to_owned() };
    let at = position(name).ok_or_else(unknown)?;
    match SETTINGS[at].kind {
        Kind::Alias(of) => resolve(of),
        _ => Ok((at, &SETTINGS[at])),
    }
}

/// The name that the caller used, as the table spells it, so that an error names the alias and not its target.
fn find_name(name: &str, otherwise: &SettingSpec) -> &'static str {
    position(name).map_or(otherwise.name, |at| SETTINGS[at].name)
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $method:ident: $read:ident($name:literal) -> $type:ty $(, $then:expr)?;)*) => {
        /// Accessors, each a constant offset into the table.
        impl Settings {
            $(
                $(#[$doc])*
                pub fn $method(&self) -> $type {
                    const AT: usize = index_of($name);
                    let value = self.$read(AT);
                    $(let value = $then(value);)?
                    value
                }
            )*
        }
    };
}

accessors! {
    /// Everything that the node keeps.
    data_dir: text("data-dir") -> &str;
    /// Unique in the cluster; empty until the host's name is filled in.
    name: text("name") -> &str;
    /// Where clients connect.
    listen: listen_at("listen") -> SocketAddr;
    /// Where other nodes connect.
    peer_listen: listen_at("peer-listen") -> SocketAddr;
    /// Where the HTTP API answers.
    http_listen: listen_at("http-listen") -> SocketAddr;
    /// The host that others are told; empty for the listen address's.
    advertise: text("advertise") -> &str;
    /// Copies of each shard.
    replicas: int("replicas") -> u64;
    /// Shards at creation.
    shards: int("shards") -> u64;
    /// Threads that run shards; 0 for as many as there are cores.
    cores: int("cores") -> u64;
    /// Failure domain; empty for none.
    zone: text("zone") -> &str;
    /// After it a request is answered with an error.
    request_timeout_ms: int("request-timeout") -> u64;
    /// Listening beyond loopback without a password is allowed.
    insecure: yes_no("insecure") -> bool;
    /// The password of the default user; empty for none.
    requirepass: text("requirepass") -> &str;
    /// The file whose first line is the password; empty for none.
    requirepass_file: text("requirepass-file") -> &str;
    /// When a write is answered.
    durability: choice("durability") -> Durability, |at| [Durability::Disk, Durability::Memory][at];
    /// How long replies to tokens of `ONCE` are kept.
    once_retention_seconds: u32("once-retention") -> u32;
    /// Microseconds from which on a command is kept in the slow log; negative for never.
    slowlog_log_slower_than_micros: int_signed("slowlog-log-slower-than") -> i64;
    /// Entries of the slow log.
    slowlog_max_len: int("slowlog-max-len") -> u64;
    /// Milliseconds from which on a sample is taken; 0 for never.
    latency_monitor_threshold_ms: int("latency-monitor-threshold") -> u64;
    /// Denials that `ACL LOG` keeps.
    acllog_max_len: int("acllog-max-len") -> u64;
    /// How much memory values may take; 0 for no limit.
    maxmemory_bytes: int("maxmemory") -> u64;
    /// Keys that eviction compares in each round.
    maxmemory_samples: int("maxmemory-samples") -> u64;
    /// How hard it is to raise a key's use counter.
    lfu_log_factor: u32("lfu-log-factor") -> u32;
    /// Minutes without use after which the counter falls by one; 0 for never.
    lfu_decay_minutes: u32("lfu-decay-time") -> u32;
    /// Connections at once.
    maxclients: int("maxclients") -> u64;
    /// An idle client is disconnected after it; 0 for never.
    timeout_seconds: int("timeout") -> u64;
    /// Idle seconds before the kernel probes a connection; 0 for never.
    tcp_keepalive_seconds: int("tcp-keepalive") -> u64;
    /// How much a client may send ahead of what has been carried out.
    client_query_buffer_bytes_max: u32("client-query-buffer-limit") -> u32;
    /// The greatest size of one argument.
    bulk_bytes_max: u32("proto-max-bulk-len") -> u32;
    /// Keys that a cell remembers as read by clients that cache them; 0 for no limit.
    tracking_table_keys_max: int("tracking-table-max-keys") -> u64;
    /// The log that may gather in a group before a checkpoint is taken.
    checkpoint_log_bytes: int("checkpoint-log-bytes") -> u64;
    /// The size at which a new log file is begun, in whole blocks of 512 bytes.
    log_segment_bytes: int("log-segment-bytes") -> u64, |bytes: u64| bytes.next_multiple_of(512);
    /// For `OBJECT ENCODING` of a hash: fields, and bytes of a field or value.
    hash_max_listpack_entries: int("hash-max-listpack-entries") -> u64;
    hash_max_listpack_value: int("hash-max-listpack-value") -> u64;
    /// For `OBJECT ENCODING` of a set: members, if all are integers; members; bytes of a member.
    set_max_intset_entries: int("set-max-intset-entries") -> u64;
    set_max_listpack_entries: int("set-max-listpack-entries") -> u64;
    set_max_listpack_value: int("set-max-listpack-value") -> u64;
    /// For `OBJECT ENCODING` of a sorted set: members, and bytes of a member.
    zset_max_listpack_entries: int("zset-max-listpack-entries") -> u64;
    zset_max_listpack_value: int("zset-max-listpack-value") -> u64;
    /// Log lines of lower importance are not written.
    log_level: choice("log-level") -> LogLevel, |at| LogLevel::ALL[at];
    /// The form of log lines.
    log_format: choice("log-format") -> LogFormat, |at| [LogFormat::Text, LogFormat::Json][at];
}

impl Settings {
    /// The addresses of nodes to form or join a cluster with; empty for a cluster of one.
    pub fn join(&self) -> &[String] {
        const AT: usize = index_of("join");
        match &self.values[AT] {
            Value::Peers(peers) => peers,
            other => panic!("join is {other:?}, not a list of addresses"),
        }
    }

    /// For `OBJECT ENCODING` of a list. Positive: elements; -1 to -5: 4 KiB to 64 KiB.
    pub fn list_max_listpack_size(&self) -> i64 {
        const AT: usize = index_of("list-max-listpack-size");
        match self.values[AT] {
            Value::Int(n) => n,
            ref other => panic!("list-max-listpack-size is {other:?}"),
        }
    }

    /// What is evicted past `maxmemory`, by its name: one of the table's words.
    pub fn maxmemory_policy(&self) -> &'static str {
        const AT: usize = index_of("maxmemory-policy");
        match (&self.values[AT], SETTINGS[AT].kind) {
            (Value::Choice(at), Kind::Choice(words)) => words[*at],
            (other, _) => panic!("maxmemory-policy is {other:?}"),
        }
    }

    /// Letters of the events of keys that subscribers are told, each once.
    pub fn notify_keyspace_events(&self) -> &str {
        const AT: usize = index_of("notify-keyspace-events");
        match &self.values[AT] {
            Value::Text(letters) => letters,
            other => panic!("notify-keyspace-events is {other:?}"),
        }
    }

    /// The percentiles that `INFO latencystats` shows, as text and as numbers.
    pub fn latency_percentiles(&self) -> impl Iterator<Item = (&str, f64)> {
        const AT: usize = index_of("latency-tracking-info-percentiles");
        let Value::Text(numbers) = &self.values[AT] else {
            panic!("latency-tracking-info-percentiles is {:?}", self.values[AT])
        };
        numbers.split(' ').filter_map(|text| Some((text, text.parse().ok()?)))
    }

    /// How much a client may leave unread.
    pub fn output_limits(&self) -> OutputLimits {
        const AT: usize = index_of("client-output-buffer-limit");
        match self.values[AT] {
            Value::OutputLimits(limits) => limits,
            ref other => panic!("client-output-buffer-limit is {other:?}"),
        }
    }
}

impl LogLevel {
    /// In the order of the words in the table.
    pub(crate) const ALL: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
}

impl fmt::Debug for Settings {
    /// Names and values, passwords left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |at: usize, spec: &SettingSpec| match spec.kind {
            Kind::Secret => "(hidden)".to_owned(),
            _ => self.text_at(at),
        };
        f.debug_map().entries(SETTINGS.iter().enumerate().map(|(at, s)| (s.name, shown(at, s)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_reads_back_as_it_was_written() {
        let mut settings = Settings::default();
        for spec in SETTINGS.iter().filter(|s| !matches!(s.kind, Kind::Derived(_))) {
            let text = settings.get(spec.name).unwrap();
            settings.set(spec.name, &text).unwrap_or_else(|e| panic!("{}: {e}", spec.name));
            assert_eq!(settings.get(spec.name).unwrap(), text, "{}", spec.name);
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn accessors_give_the_defaults_of_the_contract() {
        let s = Settings::default();
        assert_eq!(s.data_dir(), "./skep-data");
        assert_eq!(s.listen().to_string(), "127.0.0.1:6379");
        assert_eq!(s.peer_listen().to_string(), "127.0.0.1:7379");
        assert_eq!(s.http_listen().to_string(), "127.0.0.1:8379");
        assert_eq!((s.replicas(), s.shards(), s.request_timeout_ms()), (3, 1, 5000));
        assert_eq!((s.insecure(), s.join(), s.zone(), s.requirepass()), (false, &[][..], "", ""));
        assert_eq!(s.durability(), Durability::Disk);
        assert_eq!(s.maxmemory_policy(), "noeviction");
        assert_eq!(s.bulk_bytes_max(), 512 << 20);
        assert_eq!(s.output_limits().normal.hard_bytes, 1 << 30);
        assert_eq!((s.log_level(), s.log_format()), (LogLevel::Info, LogFormat::Text));
    }

    #[test]
    fn accessors_take_the_ends_of_every_range() {
        let mut s = Settings::default();
        for spec in SETTINGS {
            let ends = match spec.kind {
                Kind::Int { min, max } => [min.to_string(), max.to_string()],
                Kind::Bytes { min, max } => [min.to_string(), max.to_string()],
                _ => continue,
            };
            for end in ends {
                s.set(spec.name, &end).unwrap();
                let _ = (s.replicas(), s.shards(), s.request_timeout_ms(), s.maxmemory_bytes());
                let _ = (s.maxmemory_samples(), s.lfu_log_factor(), s.lfu_decay_minutes(), s.maxclients());
                let _ = (s.timeout_seconds(), s.tcp_keepalive_seconds(), s.checkpoint_log_bytes());
                let _ = (s.client_query_buffer_bytes_max(), s.bulk_bytes_max(), s.list_max_listpack_size());
                let _ = (s.hash_max_listpack_entries(), s.hash_max_listpack_value());
                let _ =
                    (s.set_max_intset_entries(), s.set_max_listpack_entries(), s.set_max_listpack_value());
                let _ = (s.zset_max_listpack_entries(), s.zset_max_listpack_value());
                assert!(s.log_segment_bytes().is_multiple_of(512));
            }
        }
    }

    #[test]
    fn words_and_types_are_in_the_same_order() {
        let mut s = Settings::default();
        for (word, level) in
            [("error", LogLevel::Error), ("warn", LogLevel::Warn), ("trace", LogLevel::Trace)]
        {
            s.set("log-level", word).unwrap();
            assert_eq!(s.log_level(), level);
        }
        s.set("durability", "memory").unwrap();
        assert_eq!(s.durability(), Durability::Memory);
        s.set("log-format", "json").unwrap();
        assert_eq!(s.log_format(), LogFormat::Json);
    }

    #[test]
    fn passwords_are_never_shown() {
        let mut s = Settings::default();
        s.set("requirepass", "hunter2").unwrap();
        assert!(!format!("{s:?}").contains("hunter2"));
        let error = s.set("requirepass", &"hunter2".repeat(100)).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(s.requirepass(), "hunter2");
    }
}
