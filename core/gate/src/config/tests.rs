//! The configuration as a whole: what is taken, what is refused and in which words, what a difference says.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::fields::{Fields, Named, Scalar, Section};
use super::*;

const FULL: &str = include_str!("../../testdata/full.toml");

fn refused(text: &str) -> String {
    let errors = Config::parse(text).expect_err("it must be refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_full_configuration_is_read_and_its_text_reads_back() {
    let config = Config::parse(FULL).unwrap_or_else(|e| panic!("{e:#?}"));
    let text = config.text();
    let again = Config::parse(&text).unwrap_or_else(|e| panic!("{e:#?}\n{text}"));
    assert_eq!(again, config, "INV-GATE-1");
    assert_eq!(again.text(), text);
    assert_eq!(config.difference(&again), "");
    let names: Vec<&str> = config.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["orders", "assets", "canary", "old", "health", "users"], "the order of the file");
}

#[test]
fn mistakes_are_told_with_line_key_value_and_nearest_name() {
    let pool = "[gateway.pool.api]\nupstreams = ['a:1']\n";
    for (text, expected) in [
        ("[gatway]\n", "line 1: `gateway` is missing; is `gatway` meant to be it?"),
        ("[gateway\n", "line 1: unclosed table, expected `]`"),
        ("gateway = 1\n", "line 1: `gateway` must be a table"),
        (
            "[gateway.route.r]\npool = 'aip'\n[gateway.pool.api]\nupstreams = ['a:1']\n",
            "line 2: `gateway.route.r.pool` is `aip`; there is no gateway.pool of this name; did you mean `api`?",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\nretry.atempts = 2\n",
            "line 3: `gateway.route.r.retry.atempts` is not known; did you mean `attempts`?",
        ),
        (
            "[gateway.listener.l]\naddress = '0.0.0.0:53'\nprotocol = 'udp'\npool = 'p'\n[gateway.pool.p]\n\
             upstreams = ['a:1']\nsend-proxy = 'v2'\n",
            "line 7: `gateway.pool.p.send-proxy` is for pools of tcp listeners; listener `l` uses it for udp",
        ),
        (
            "[gateway.listener.l]\naddress = '0.0.0.0:53'\nprotocol = 'udp'\npool = 'p'\n[gateway.pool.p]\n\
             upstreams = ['a:1']\ntls-name = 'a'\n",
            "line 7: `gateway.pool.p.tls-name` is for upstreams that connections are made to; listener `l` uses it for udp",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\nretry.attempts = 99\n",
            "line 3: `gateway.route.r.retry.attempts` is 99; it must be 1 to 10",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\ntimeout.total = '0s'\n",
            "line 3: `gateway.route.r.timeout.total` is 0s; it must be 1ms to 24h",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\ntimeout.total = 5\n",
            "line 3: `gateway.route.r.timeout.total` is `5`; it must be a time such as 250ms, 5s, 2min or 1h",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\npath-regex = '/('\n",
            "line 3: `gateway.route.r.path-regex` is `/(`; it must be a regular expression that compiles to at most 1 \
             MiB, such as /v[0-9]+/users",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\nimportance = 'hihg'\n",
            "line 3: `gateway.route.r.importance` is `hihg`; it must be critical, high, normal, low",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\nresponse-headers.set = { x = \"a\\r\\nb\" }\n",
            "line 3: `gateway.route.r.response-headers.set.x` is `a\\r\\nb`; it must be the value of a header, without \
             control characters",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\npath-prefix = '/a//b'\n",
            "line 3: `gateway.route.r.path-prefix` is `/a//b`; no path has adjacent slashes while gateway.merge-slashes \
             is true",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\nupgrades = ['websocket', 'H2C']\n",
            "line 3: `gateway.route.r.upgrades` is `H2C`; it must be a protocol other than HTTP, such as websocket",
        ),
        (
            "[gateway.route.r]\n",
            "line 1: `gateway.route.r.pool` is missing; a route has one of pool, split, redirect, answer",
        ),
        (
            "[gateway.listener.a]\naddress = '0.0.0.0:80'\n[gateway.listener.b]\naddress = '0.0.0.0:80'\n",
            "line 4: `gateway.listener.b.address` is 0.0.0.0:80, as is that of `a`",
        ),
        (
            "[gateway]\ndns.servers = ['ns.example']\n",
            "line 2: `gateway.dns.servers` is `ns.example`; it must be the address of a name server, such as 10.0.0.53 or \
             10.0.0.53:5353",
        ),
        ("[gateway]\ndns.ttl-max = '500ms'\n", "line 2: `gateway.dns.ttl-max` is shorter than ttl-min"),
        (
            "[gateway]\ntrusted-proxies = ['10.0.0.1/8']\n",
            "line 2: `gateway.trusted-proxies` is `10.0.0.1/8`; it must be an address or a network such as 10.0.0.0/8, \
             with no bits set behind its length",
        ),
        (
            "[gateway.pool.p]\nupstreams = ['a:1', { address = 'a:1', wieght = 2 }]\n",
            "line 2: `gateway.pool.p.upstreams.1.wieght` is not known; did you mean `weight`?\nline 2: \
             `gateway.pool.p.upstreams` holds a:1 twice",
        ),
        (
            "[gateway.listener.a]\naddress = '127.0.0.1:0'\n",
            "line 2: `gateway.listener.a.address` is `127.0.0.1:0`; its port must be 1 to 65535, for clients could not know one \
             that the system chooses",
        ),
        (
            "[gateway.listener.a]\naddress = '127.0.0.1:80'\nproxy-protocol = 'required'\n",
            "line 3: `gateway.listener.a.proxy-protocol` is `required`, and gateway.trusted-proxies is empty, so every \
             connection would be refused; name there the proxies that write the header",
        ),
        (
            "[gateway.pool.p]\nupstreams = 'a:1'\nhealth.kind = 'grpc'\n",
            "line 3: `gateway.pool.p.health.kind` is grpc, and protocol is http1; gRPC needs protocol = \"http2\", else every \
             probe fails",
        ),
        (
            "[gateway.pool.p]\nupstreams = 'a:1'\nhealth = { hots = 'b' }\n",
            "line 3: `gateway.pool.p.health.hots` is not known; did you mean `host`?",
        ),
        (
            "[gateway.pool.p]\nupstreams = 'a:1'\nhealth.host = 'a b'\n",
            "line 3: `gateway.pool.p.health.host` is `a b`; it must be a host, or one with a port",
        ),
        (
            "[gateway.route.r]\nanswer.headers = { Content-Length = '5', x = '1' }\n",
            "line 2: `gateway.route.r.answer.headers` holds content-length, which the gateway sets itself; leave it out",
        ),
        (
            "[gateway.route.r]\npool = 'p'\nrewrite.path = '/a?b=c'\n[gateway.pool.p]\nupstreams = 'a:1'\n",
            "line 3: `gateway.route.r.rewrite.path` is `/a?b=c`; it is a path alone, and the query of the request is kept: \
             leave out ? and #",
        ),
        (
            "[gateway.route.r]\npool = 'p'\nrewrite.path = '/$1'\n[gateway.pool.p]\nupstreams = 'a:1'\n",
            "line 3: `gateway.route.r.rewrite.path` is `/$1`; $1 is a group of path-regex, which this route has not: leave it \
             out, or set one",
        ),
        (
            "[gateway.route.r]\npool = 'p'\npath-regex = '/a/(.*)'\nrewrite.path = '/$2'\n[gateway.pool.p]\n\
             upstreams = 'a:1'\n",
            "line 4: `gateway.route.r.rewrite.path` is `/$2`; path-regex has no group `2`, it has $1. Behind a number a letter \
             needs braces: ${1}a",
        ),
        (
            "[gateway.route.r]\npool = 'p'\nrewrite.host = 'a.:80'\n[gateway.pool.p]\nupstreams = 'a:1'\n",
            "line 3: `gateway.route.r.rewrite.host` is `a.:80`; a host is sent without a final dot and an empty port: write \
             `a:80`",
        ),
        (
            "[gateway.pool.p]\nupstreams = 7\n",
            "line 2: `gateway.pool.p.upstreams` is `7`; it must be a list\nline 2: `gateway.pool.p.upstreams` is empty; a pool \
             needs at least one address",
        ),
        (
            "[gateway.pool.\"a b\"]\nupstreams = ['a:1']\n",
            "line 1: `gateway.pool.a b` is no name; it must be 1 to 64 of a-z A-Z 0-9 - _",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
    for one in ["'a:1'", "{ address = 'a:1' }", "['a:1']"] {
        let config = Config::parse(&format!("[gateway.pool.p]\nupstreams = {one}\n")).unwrap();
        assert_eq!(
            config.pools[0].it.upstreams.len(),
            1,
            "a list of one may be written as the value alone: {one}"
        );
    }
    let many: String = (0..200).map(|n| format!("wrong{n} = 1\n")).collect();
    assert_eq!(refused(&format!("[gateway]\n{many}")).lines().count(), 50, "errors have a limit");
    assert!(Config::parse(&format!("[other]\nx = 1\n{pool}")).is_ok(), "other tables are left to others");
}

#[test]
fn a_secret_line_break_or_control_byte_never_reaches_an_error_as_it_is() {
    let text = refused("[gateway]\n\"a\\u001b[2J\" = 1\n");
    assert!(text.lines().count() == 1 && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_difference_names_each_key_item_and_order_that_changes() {
    let old = "[gateway.pool.api]\nupstreams = ['a:1', 'b:1']\n[gateway.route.x]\npool = 'api'\n\
               [gateway.route.y]\npool = 'api'\nhost = 'y'\n";
    let new = "[gateway.pool.api]\nupstreams = ['a:1', {address = 'c:1', weight = 2}]\nslow-start = '3s'\n\
               [gateway.route.y]\npool = 'api'\n[gateway.route.x]\npool = 'api'\nhedge.after = '7ms'\n";
    let (old, new) = (Config::parse(old).unwrap(), Config::parse(new).unwrap());
    let difference = old.difference(&new);
    assert_eq!(
        difference.lines().collect::<Vec<_>>(),
        [
            "- gateway.route.x.hedge = false",
            "~ gateway.route.y.host: - \"y\"",
            "~ gateway.pool.api.upstreams: - { address = \"b:1\", weight = 1, drain = false }",
            "~ gateway.pool.api.upstreams: + { address = \"c:1\", weight = 2, drain = false }",
            "~ gateway.pool.api.slow-start = \"10s\" -> \"3s\"",
            "+ gateway.route.x.hedge.after = \"7ms\"",
            "+ gateway.route.x.hedge.percentile = \"95%\"",
            "+ gateway.route.x.hedge.methods = [\"GET\", \"HEAD\"]",
            "~ order of routes = x, y -> y, x",
        ],
        "{difference}"
    );
}

/// Records every key with its section, going into sections that are off too.
#[derive(Default)]
struct Keys {
    path: Vec<&'static str>,
    keys: BTreeSet<(String, String)>,
    defaults: Vec<(String, String)>,
}

impl Keys {
    fn add(&mut self, key: &'static str, default: Option<String>) {
        let section = self.path.join(".");
        if let Some(default) = default {
            self.defaults.push((format!("{section}.{key}"), default));
        }
        self.keys.insert((section, key.to_owned()));
    }

    fn inside<S: Section>(&mut self, key: &'static str) {
        self.add(key, None);
        self.path.push(key);
        S::default().fields(self);
        self.path.pop();
    }
}

impl Fields for Keys {
    fn one<T: Scalar>(&mut self, key: &'static str, value: &mut T) {
        self.add(key, Some(value.show()));
    }
    fn ranged<T: Scalar + PartialOrd>(&mut self, key: &'static str, value: &mut T, range: RangeInclusive<T>) {
        assert!(range.contains(value), "the default of {key}, {value:?}, is out of its range");
        self.add(key, Some(value.show()));
    }
    fn maybe<T: Scalar>(&mut self, key: &'static str, _: &mut Option<T>) {
        self.add(key, None);
    }
    fn list<T: Scalar>(&mut self, key: &'static str, _: &mut Vec<T>, _: usize) {
        self.add(key, None);
    }
    fn map<K: Scalar, T: Scalar>(&mut self, key: &'static str, _: &mut Vec<(K, T)>, _: usize) {
        self.add(key, None);
    }
    fn section<S: Section>(&mut self, key: &'static str, _: &mut S) {
        self.inside::<S>(key);
    }
    fn maybe_section<S: Section>(&mut self, key: &'static str, _: &mut Option<S>) {
        self.inside::<S>(key);
    }
    fn sections<S: Section>(&mut self, key: &'static str, _: &mut Vec<S>, _: usize) {
        self.inside::<S>(key);
    }
    fn named<S: Section>(&mut self, key: &'static str, _: &mut Vec<Named<S>>, _: usize) {
        self.inside::<S>(key);
    }
}

#[test]
fn every_key_and_its_default_stands_in_the_documentation() {
    let docs = include_str!("../../../../docs/gateway.md");
    let mut keys = Keys::default();
    Config::default().fields(&mut keys);
    for (section, key) in &keys.keys {
        assert!(docs.contains(&format!("`{key}`")), "{section}.{key} is not in docs/gateway.md");
    }
    for (key, default) in &keys.defaults {
        let (_, name) = key.rsplit_once('.').unwrap_or(("", key));
        let default = default.trim_matches('"');
        let stands = docs.lines().any(|l| l.contains(&format!("`{name}`")) && l.contains(default));
        assert!(default.is_empty() || stands, "docs/gateway.md says nothing of {key} = {default}");
    }
}

proptest! {
    #[test]
    fn scalars_read_back_what_they_show(us in 0u64..1 << 60, bytes: u64, share in 0u32..100_000_000, text: String) {
        fn same<T: Scalar>(value: T) {
            let shown = value.show();
            let line = format!("x = {shown}");
            let table = DeTable::parse(&line).unwrap_or_else(|e| panic!("{shown}: {e}"));
            let read = T::read(table.get_ref().get("x").expect("it was written").get_ref());
            assert_eq!(read.as_ref(), Some(&value), "{shown}");
        }
        same(skep_base::Micros(us));
        same(scalar::Size(bytes));
        same(scalar::Share(share));
        same(text);
    }

    #[test]
    fn any_text_is_read_or_refused_and_never_a_panic(text in "[a-z\\[\\]. =\"'{},0-9\n-]{0,200}") {
        let _ = Config::parse(&text);
        let _ = Config::parse(&format!("[gateway]\n{text}"));
    }

    #[test]
    fn a_full_configuration_with_a_line_broken_is_read_or_refused(line in 0usize..200, junk in "[ -~]{0,12}") {
        let mut lines: Vec<String> = FULL.lines().map(str::to_owned).collect();
        let at = line % lines.len();
        lines[at] = junk;
        if let Ok(config) = Config::parse(&lines.join("\n")) {
            prop_assert_eq!(Config::parse(&config.text()), Ok(config));
        }
    }
}

#[test]
fn a_text_for_the_cluster_holds_nothing_but_the_gateway() {
    assert!(Config::parse_alone("[gateway]\ntrusted-hops = 1").is_ok());
    let errors = Config::parse_alone("requirepass = \"secret\"\n[gateway]\n").unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "line 1: `requirepass` is no part of [gateway]; a node's own settings are for its own file"
    );
    assert!(Config::parse_alone("[gateway]\ntrusted-hop = 1").unwrap_err()[0].what.contains("trusted-hops"));
}
