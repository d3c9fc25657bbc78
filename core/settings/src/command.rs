//! `CONFIG GET` and `CONFIG SET`, without the connection: arguments in, names and values or a refusal out.

use std::collections::BTreeMap;

use skep_base::{Refusal, glob};

use crate::spec::position;
use crate::{Effect, SETTINGS, SettingError, Settings};

/// What a `CONFIG SET` has done, and what it asks of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigSet {
    /// Names whose values are different now, aliases as the setting they stand for.
    pub changed: Vec<&'static str>,
    /// Settings of the whole cluster and the values that are asked for, in the form of `CONFIG GET`. They are not set here
    /// before [`Settings::learn`].
    pub shared: Vec<(String, String)>,
}

impl Settings {
    /// The settings whose names match any of `patterns` (globs, any case), each once, in the order of the table, with
    /// their values as `CONFIG GET` replies them.
    ///
    /// Cost: O(settings x patterns).
    pub fn config_get<P: AsRef<[u8]>>(&self, patterns: &[P]) -> Vec<(&'static str, String)> {
        SETTINGS
            .iter()
            .enumerate()
            .filter(|(_, spec)| {
                patterns.iter().any(|p| glob::matches_with(p.as_ref(), spec.name.as_bytes(), true))
            })
            .map(|(at, spec)| (spec.name, self.text_at(at)))
            .collect()
    }

    /// Carries out `CONFIG SET name value [name value …]`, all of it or nothing; but settings of the whole cluster are only
    /// checked.
    ///
    /// # Errors
    /// In Redis's words; nothing has changed.
    pub fn config_set<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<ConfigSet, Refusal> {
        if args.is_empty() || !args.len().is_multiple_of(2) {
            return Err(Refusal::Syntax);
        }
        let pairs: Vec<(String, String)> =
            args.chunks_exact(2).map(|pair| (lossy(pair[0].as_ref()), lossy(pair[1].as_ref()))).collect();
        check_names(&pairs).map_err(|error| error.refusal())?;
        let mut next = self.clone();
        let mut shared = Vec::new();
        for (name, value) in &pairs {
            next.set(name, value).map_err(|error| error.refusal())?;
            if let Some(at) = shared_position(name) {
                shared.push((SETTINGS[at].name.to_owned(), next.text_at(at)));
                next.take_from(self, at);
            }
        }
        let changed = self.names_that_differ(&next);
        *self = next;
        Ok(ConfigSet { changed, shared })
    }

    /// Takes over what the whole cluster has set; true if that changes something. What is no setting of the cluster by the table
    /// of this release, or no value of it, is passed over: another release has set it.
    pub fn learn(&mut self, settings: &BTreeMap<String, String>) -> bool {
        let before = self.clone();
        for (name, value) in settings.iter().filter(|(name, _)| shared_position(name).is_some()) {
            let _ = self.set(name, value);
        }
        *self != before
    }
}

/// True if a `CONFIG SET` of these names and values asks something of the whole cluster.
pub fn names_shared<A: AsRef<[u8]>>(args: &[A]) -> bool {
    args.iter().step_by(2).any(|name| shared_position(&lossy(name.as_ref())).is_some())
}

fn shared_position(name: &str) -> Option<usize> {
    position(name).filter(|at| SETTINGS[*at].effect == Effect::Shared)
}

/// Settings are text: bytes that are not UTF-8 are replaced, and then refused where they matter.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every name is known, may be changed, and comes once.
fn check_names(pairs: &[(String, String)]) -> Result<(), SettingError> {
    let mut seen = Vec::new();
    for (name, _) in pairs {
        let at = position(name).ok_or_else(|| SettingError::Unknown { name: name.clone() })?;
        let spec = &SETTINGS[at];
        if matches!(spec.effect, Effect::AtStart | Effect::Fact) {
            return Err(SettingError::Immutable { name: spec.name });
        }
        if seen.contains(&at) {
            return Err(SettingError::Duplicate { name: spec.name });
        }
        seen.push(at);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pairs_are_all_taken_or_none() {
        let mut settings = Settings::default();
        assert_eq!(
            settings.config_set(&["maxmemory", "1mb", "HASH-max-ziplist-entries", "9", "timeout", "0"]),
            Ok(ConfigSet { changed: vec!["maxmemory", "hash-max-listpack-entries"], shared: Vec::new() })
        );
        let before = settings.clone();
        assert!(settings.config_set(&["maxmemory", "2mb", "timeout", "-1"]).is_err());
        assert_eq!(settings, before);
        assert_eq!(settings.maxmemory_bytes(), 1 << 20);
    }

    #[test]
    fn a_setting_of_the_cluster_is_checked_here_and_learnt_from_the_cluster() {
        let mut settings = Settings::default();
        let asked = settings.config_set(&["timeout", "7", "Notify-Keyspace-Events", "KEA"]).unwrap();
        assert_eq!(asked.changed, ["timeout"]);
        assert_eq!(asked.shared, [("notify-keyspace-events".to_owned(), "AKE".to_owned())]);
        assert_eq!(settings.notify_keyspace_events(), "");
        assert!(settings.config_set(&["timeout", "8", "notify-keyspace-events", "q"]).is_err());
        assert_eq!(settings.timeout_seconds(), 7);

        let said = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect::<BTreeMap<_, _>>()
        };
        let known = said(&[("notify-keyspace-events", "AKE")]);
        assert_eq!((settings.learn(&known), settings.learn(&known)), (true, false));
        assert_eq!(settings.notify_keyspace_events(), "AKE");
        // What a newer release may say, and what is no node's to be told.
        let other =
            said(&[("notify-keyspace-events", "AKE?"), ("requirepass", "x"), ("timeout", "1"), ("z", "")]);
        assert!(!settings.learn(&other));
        assert_eq!((settings.notify_keyspace_events(), settings.requirepass()), ("AKE", ""));
    }

    #[test]
    fn names_tell_whether_the_cluster_is_asked() {
        assert!(names_shared(&["timeout", "1", "NOTIFY-keyspace-events", ""]));
        assert!(!names_shared(&["timeout", "notify-keyspace-events"]));
    }

    // The right-hand sides were observed with redis-server 7.0.15.
    #[test]
    fn errors_are_worded_as_redis_words_them() {
        let failed = |name: &str, why: &str| {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
        };
        let table: [(&[&str], String); 16] = [
            (&["maxmemory", "1gx"], failed("maxmemory", "argument must be a memory value")),
            (
                &["maxmemory", "0", "nosuch", "1"],
                "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'".into(),
            ),
            (&["databases", "4"], failed("databases", "can't set immutable config")),
            (&["maxmemory", "1mb", "MAXMEMORY", "2mb"], failed("maxmemory", "duplicate parameter")),
            (&["hz", "abc"], failed("hz", "argument couldn't be parsed into an integer")),
            (&["appendonly", "maybe"], failed("appendonly", "argument must be 'yes' or 'no'")),
            (
                &["maxmemory-policy", "foo"],
                failed(
                    "maxmemory-policy",
                    "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, \
                     volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction",
                ),
            ),
            (&["save", "abc"], failed("save", "Invalid save parameters")),
            (
                &["client-output-buffer-limit", "bad"],
                failed(
                    "client-output-buffer-limit",
                    "Wrong number of arguments in buffer limit configuration.",
                ),
            ),
            (
                &["latency-tracking-info-percentiles", "50 x"],
                failed(
                    "latency-tracking-info-percentiles",
                    "Invalid latency-tracking-info-percentiles parameters",
                ),
            ),
            (
                &["latency-tracking-info-percentiles", "50 100.1"],
                failed(
                    "latency-tracking-info-percentiles",
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
                ),
            ),
            (
                &["notify-keyspace-events", "q"],
                failed("notify-keyspace-events", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            ),
            (
                &["maxmemory-samples", "0"],
                failed("maxmemory-samples", "argument must be between 1 and 2147483647 inclusive"),
            ),
            (
                &["slowlog-max-len", "-2"],
                failed("slowlog-max-len", "argument must be between 0 and 9223372036854775807 inclusive"),
            ),
            (
                &["proto-max-bulk-len", "1"],
                // Redis's range ends at 9223372036854775807.
                failed("proto-max-bulk-len", "argument must be between 1048576 and 536870912 inclusive"),
            ),
            (&["maxmemory", "1", "timeout"], "ERR syntax error".into()),
        ];
        for (args, expected) in table {
            let mut settings = Settings::default();
            assert_eq!(settings.config_set(args).unwrap_err().to_string(), expected, "{args:?}");
            assert_eq!(settings, Settings::default(), "{args:?}");
        }
    }

    #[test]
    fn what_tools_ask_redis_for_is_told_and_what_they_set_is_remembered_or_refused_as_there() {
        let told = [
            ("appenddirname", "", false),
            ("appendfilename", "", false),
            ("cluster-announce-bus-port", "0", true),
            ("cluster-announce-ip", "", true),
            ("cluster-announce-port", "0", true),
            ("cluster-announce-tls-port", "0", true),
            ("cluster-migration-barrier", "1", true),
            ("crash-log-enabled", "yes", true),
            ("dbfilename", "", false),
            ("jemalloc-bg-thread", "yes", true),
            ("loading-process-events-interval-bytes", "2097152", true),
            ("masterauth", "", true),
            ("masteruser", "", true),
            ("oom-score-adj", "no", true),
            ("rdbchecksum", "yes", false),
            ("syslog-enabled", "no", false),
            ("syslog-facility", "local0", false),
            ("syslog-ident", "skep", false),
            ("tcp-backlog", "128", false),
        ];
        for (name, value, may_be_set) in told {
            let mut settings = Settings::default();
            assert_eq!(settings.config_get(&[name]), [(name, value.to_owned())]);
            assert_eq!(settings.config_set(&[name, value]).is_ok(), may_be_set, "{name}");
        }
    }

    #[test]
    fn values_are_got_by_glob_in_the_form_of_redis() {
        let mut settings = Settings::default();
        settings
            .config_set(&["client-output-buffer-limit", "normal 1mb 2mb 60 pubsub 1 2 3", "save", "3600  1"])
            .unwrap();
        assert_eq!(
            settings.config_get(&["MAXMEM*", "maxmemory", "save", "databases", "port"]),
            [
                ("maxmemory", "0"),
                ("maxmemory-policy", "noeviction"),
                ("maxmemory-samples", "5"),
                ("databases", "16"),
                ("port", "6379"),
                ("maxmemory-clients", "0"),
                ("maxmemory-eviction-tenacity", "10"),
                ("save", "3600 1"),
            ]
            .map(|(name, value)| (name, value.to_owned()))
        );
        assert_eq!(
            settings.config_get(&["client-output-buffer-limit"])[0].1,
            "normal 1048576 2097152 60 slave 268435456 67108864 60 pubsub 1 2 3"
        );
        assert!(settings.config_get(&["nosuch"]).is_empty());
    }
}
