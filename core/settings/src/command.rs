//! `CONFIG GET` and `CONFIG SET`, without the connection: arguments in, names and values or a refusal out.

use skep_base::{Refusal, glob};

use crate::spec::position;
use crate::{Effect, SETTINGS, SettingError, Settings};

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

    /// Carries out `CONFIG SET name value [name value …]`, all of it or nothing. Gives the names whose values are
    /// different now, aliases as the setting they stand for.
    ///
    /// # Errors
    /// In Redis's words; nothing has changed.
    pub fn config_set<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Vec<&'static str>, Refusal> {
        if args.is_empty() || !args.len().is_multiple_of(2) {
            return Err(Refusal::Syntax);
        }
        let pairs: Vec<(String, String)> =
            args.chunks_exact(2).map(|pair| (lossy(pair[0].as_ref()), lossy(pair[1].as_ref()))).collect();
        check_names(&pairs).map_err(|error| error.refusal())?;
        let mut next = self.clone();
        for (name, value) in &pairs {
            next.set(name, value).map_err(|error| error.refusal())?;
        }
        let changed = self.names_that_differ(&next);
        *self = next;
        Ok(changed)
    }
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
            Ok(vec!["maxmemory", "hash-max-listpack-entries"])
        );
        let before = settings.clone();
        assert!(settings.config_set(&["maxmemory", "2mb", "timeout", "-1"]).is_err());
        assert_eq!(settings, before);
        assert_eq!(settings.maxmemory_bytes(), 1 << 20);
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
