//! What binds a request to one upstream of a pool rather than to another: a key that is hashed, and a session.

use super::sticky::{Secret, session};
use crate::config::Named;
use crate::config::pool::Pool;
use crate::router::Head;

/// The ties of a request to one pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ties {
    /// The hash that the pool's `hash-by` asks for.
    pub key: Option<u64>,
    /// The upstream's name in a valid sticky cookie.
    pub sticky: Option<u64>,
    /// Half of that session's life is over, so its cookie is to be set again.
    pub renew: bool,
}

impl Ties {
    /// Those of a request to `pool`; `sessions` gives, of a pool that has some, their secret and the wall clock, in seconds since
    /// the Unix epoch.
    pub fn of(head: &Head<'_>, pool: &Named<Pool>, sessions: impl FnOnce() -> (Secret, u64)) -> Ties {
        let mut ties = Ties { key: head.key(&pool.it.hash_by), ..Ties::default() };
        if let Some(rule) = &pool.it.sticky {
            let (secret, now_secs) = sessions();
            head.cookie(&rule.cookie.0, &mut |value| {
                let Some(found) = session(&secret, &pool.name, value, now_secs) else { return false };
                let left = found.ends.saturating_sub(now_secs);
                ties.sticky = Some(found.upstream);
                ties.renew = left.saturating_mul(2) < rule.max_age.0 / 1_000_000;
                true
            });
        }
        ties
    }
}

#[cfg(test)]
mod tests {
    use super::super::sticky::{Session, cookie};
    use super::*;
    use crate::Config;
    use crate::router::{Headers, stable_hash};

    struct Lines<'a>([(&'a str, &'a [u8]); 2]);

    impl Headers for Lines<'_> {
        fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.0.any(name, test)
        }
    }

    #[test]
    fn a_session_is_one_of_its_pool_and_renewed_in_the_second_half_of_its_life() {
        let text = "[gateway.pool.p]\nupstreams = ['a:1']\nsticky = { cookie = 's', max-age = '100s' }\n\
                    [gateway.pool.plain]\nupstreams = ['a:1']\nhash-by = 'header:x-user'\n";
        let (config, secret) = (Config::parse(text).unwrap(), Secret([7; 32]));
        let at = |pool: &str| config.pools.iter().find(|p| p.name == pool).unwrap();
        let given = |pool: &str| cookie(&secret, pool, Session { upstream: 5, ends: 1_100 });
        let lines = format!("a=b; s={}; s={}", given("other"), given("p"));
        let headers = Lines([("cookie", lines.as_bytes()), ("x-user", b"me")]);
        let head = Head {
            listener: None,
            secure: true,
            method: "GET",
            host: "h",
            path: "/",
            query: None,
            headers: &headers,
            source: "192.0.2.1".parse().unwrap(),
            caller: None,
        };
        for (now, sticky, renew) in [
            (1_000, Some(5), false),
            (1_050, Some(5), false),
            (1_051, Some(5), true),
            (1_099, Some(5), true),
            (1_100, None, false),
        ] {
            let ties = Ties::of(&head, at("p"), || (secret.clone(), now));
            assert_eq!((ties.sticky, ties.renew), (sticky, renew), "{now}");
        }
        let ties = Ties::of(&head, at("plain"), || unreachable!("it has no sessions"));
        assert_eq!(ties, Ties { key: Some(stable_hash(b"me")), ..Ties::default() });
    }
}
