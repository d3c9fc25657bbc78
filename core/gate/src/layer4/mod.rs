//! What connections say before they are requests: which name a TLS client asks for, and for whom a proxy speaks.

pub mod hello;
pub mod proxy_header;
pub mod udp;

use crate::config::scalar::HostPattern;

/// The entry of `table` for a name: exactly it, else the longest wildcard above it.
pub fn by_name<'t, T>(table: &'t [(HostPattern, T)], name: &str) -> Option<&'t T> {
    let fits = |pattern: &str| match pattern.strip_prefix("*.") {
        Some(below) => name.strip_suffix(below).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern == name,
    };
    let fitting = table.iter().filter(|(pattern, _)| fits(&pattern.0));
    fitting.max_by_key(|(pattern, _)| (!pattern.0.starts_with('*'), pattern.0.len())).map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_name_wins() {
        let table: Vec<(HostPattern, u32)> = ["*.example.com", "db.example.com", "*.db.example.com"]
            .iter()
            .zip(1..)
            .map(|(p, n)| (HostPattern((*p).to_owned()), n))
            .collect();
        for (name, found) in [
            ("db.example.com", Some(&2)),
            ("a.example.com", Some(&1)),
            ("a.b.example.com", Some(&1)),
            ("x.db.example.com", Some(&3)),
            ("example.com", None),
            (".example.com", None),
            ("xexample.com", None),
        ] {
            assert_eq!(by_name(&table, name), found, "{name}");
        }
    }
}
