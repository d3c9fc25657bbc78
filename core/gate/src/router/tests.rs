//! Which route takes a request, against a table and against a slow router that follows the documentation word by word.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use skep_base::Rng;

use super::*;
use crate::config::scalar::{PathText, Pattern, Test};
use crate::names::{ListenerId, PoolId};

const FULL: &str = include_str!("../../testdata/full.toml");

fn config(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|e| panic!("{e:#?}"))
}

struct Ask<'a> {
    method: &'a str,
    url: &'a str,
    headers: &'a [(&'a str, &'a [u8])],
    listener: Option<u32>,
}

fn get(url: &str) -> Ask<'_> {
    Ask { method: "GET", url, headers: &[], listener: Some(0) }
}

fn with_head<T>(ask: &Ask<'_>, f: impl FnOnce(&Head<'_>) -> T) -> T {
    let (host, rest) = ask.url.split_once('/').unwrap();
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (format!("/{path}"), Some(query)),
        None => (format!("/{rest}"), None),
    };
    let headers: Vec<(&str, &[u8])> = ask.headers.to_vec();
    let headers: &[(&str, &[u8])] = &headers;
    struct Lines<'a>(&'a [(&'a str, &'a [u8])]);
    impl Headers for Lines<'_> {
        fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.0.any(name, test)
        }
    }
    f(&Head {
        listener: ask.listener.map(ListenerId),
        secure: true,
        method: ask.method,
        host,
        path: &normal_path(&path).unwrap(),
        query,
        headers: &Lines(headers),
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        caller: None,
    })
}

fn routed(config: &Config, ask: &Ask<'_>) -> Option<String> {
    let router = Router::new(config).unwrap();
    with_head(ask, |head| router.find(head).map(|m| config.routes[m.route.at()].name.clone()))
}

#[test]
fn requests_go_to_the_most_specific_route_whose_conditions_they_meet() {
    let config = config(FULL);
    let json: &[(&str, &[u8])] = &[("Accept", b"application/json"), ("Cookie", b"a=b; beta=\"yes\"")];
    let canary: &[(&str, &[u8])] = &[json[0], json[1], ("X-Canary", b"no")];
    for (ask, expected) in [
        (get("api.example.com/v1/orders"), Some("orders")),
        (get("API.Example.com:8443/v1/orders/17"), Some("orders")),
        (get("x.y.example.org/v1/orders/"), Some("orders")),
        (get("example.org/v1/orders"), None),
        (get("api.example.com/v1/ordersx"), None),
        (Ask { method: "DELETE", ..get("api.example.com/v1/orders") }, None),
        (get("anything/static/a.png"), Some("assets")),
        (get("api.example.com/img"), Some("assets")),
        (Ask { headers: json, ..get("api.example.com/v1/price?debug") }, Some("canary")),
        (Ask { headers: json, ..get("api.example.com/v1/price?debug=1&x=%20") }, Some("canary")),
        (Ask { headers: json, ..get("api.example.com/v1/price") }, None),
        (Ask { headers: canary, ..get("api.example.com/v1/price?debug") }, None),
        (Ask { headers: &json[..1], ..get("api.example.com/v1/price?debug") }, None),
        (get("old.example.com/x"), Some("old")),
        (get("old.example.com/-/healthy"), Some("health")),
        (Ask { listener: Some(1), ..get("old.example.com/-/healthy") }, Some("old")),
        (Ask { listener: None, ..get("old.example.com/-/healthy") }, Some("old")),
        (get("h/users/17"), Some("users")),
        (get("h/users/17/x"), None),
        (get("h/users/%31%37"), Some("users")),
    ] {
        assert_eq!(routed(&config, &ask).as_deref(), expected, "{} {}", ask.method, ask.url);
    }
}

fn action(text: &str, ask: &Ask<'_>) -> String {
    let config = config(text);
    let router = Router::new(&config).unwrap();
    with_head(ask, |head| format!("{:?}", router.find(head).unwrap().action(head, &mut Rng::new(1))))
}

#[test]
fn routes_rewrite_redirect_and_answer() {
    for (ask, expected) in [
        (
            get("h/static/a/b.png"),
            r#"Forward(Forward { pool: PoolId(2), mirror: None, backup: None, path: "/public/a/b.png", host: None })"#,
        ),
        (
            get("h/img"),
            r#"Forward(Forward { pool: PoolId(2), mirror: None, backup: None, path: "/public", host: None })"#,
        ),
        (
            get("h/users/17?a=b"),
            r#"Forward(Forward { pool: PoolId(0), mirror: None, backup: None, path: "/people/17", host: Some("people.internal:8080") })"#,
        ),
        (
            get("old.example.com:80/a%2Fb?x=1"),
            r#"Redirect { status: 308, location: "https://api.example.com/a%2Fb?x=1" }"#,
        ),
        (
            get("old.example.com//evil.com/"),
            r#"Redirect { status: 308, location: "https://api.example.com/evil.com/" }"#,
        ),
    ] {
        assert_eq!(action(FULL, &ask), expected, "{}", ask.url);
    }
    let bad_query = action(FULL, &get("old.example.com/?x=\r\nSet-Cookie: a"));
    assert!(bad_query.contains("?x=%0D%0ASet-Cookie:%20a"), "{bad_query}");
    let answer = action(FULL, &get("h/-/healthy"));
    assert!(answer.contains("status: 200") && answer.contains(r#"body: "ok\n""#), "{answer}");
}

fn split_counts(by: &str, weight: u32, callers: u32) -> Vec<u32> {
    let text = format!(
        "[gateway.route.r]\nsplit = [{{ pool = 'a', weight = {} }}, {{ pool = 'b', weight = {weight} }}]\n{by}\n\
         [gateway.pool.a]\nupstreams = ['a:1']\n[gateway.pool.b]\nupstreams = ['b:1']\n",
        100 - weight
    );
    let config = config(&text);
    let (router, mut rng) = (Router::new(&config).unwrap(), Rng::new(7));
    (0..callers)
        .map(|n| {
            let cookie = format!("user={n}");
            let headers: &[(&str, &[u8])] = &[("cookie", cookie.as_bytes())];
            with_head(&Ask { headers, ..get("h/") }, |head| {
                match router.find(head).unwrap().action(head, &mut rng) {
                    Action::Forward(forward) => forward.pool.0,
                    other => panic!("{other:?}"),
                }
            })
        })
        .collect()
}

#[test]
fn a_split_is_as_its_weights_say_and_a_growing_canary_keeps_its_callers() {
    for by in ["", "split-by = 'cookie:user'"] {
        let canaries: u32 = split_counts(by, 5, 20_000).iter().sum();
        // 1,000 expected, standard deviation 31.
        assert!((875..=1_125).contains(&canaries), "{by}: {canaries}");
    }
    let by = "split-by = 'cookie:user'";
    let (small, large) = (split_counts(by, 5, 5_000), split_counts(by, 20, 5_000));
    assert_eq!(small, split_counts(by, 5, 5_000), "the same on every node");
    assert!(small.iter().zip(&large).all(|(s, l)| s <= l), "a caller left the canary as it grew");
}

#[test]
fn a_mirror_gets_its_share() {
    let text = "[gateway.route.r]\npool = 'a'\nmirror = { pool = 'b', share = '10%' }\n\
                [gateway.pool.a]\nupstreams = ['a:1']\n[gateway.pool.b]\nupstreams = ['b:1']\n";
    let config = config(text);
    let (router, mut rng) = (Router::new(&config).unwrap(), Rng::new(3));
    let copies = (0..10_000).filter(|_| {
        with_head(&get("h/"), |head| match router.find(head).unwrap().action(head, &mut rng) {
            Action::Forward(forward) => forward.mirror == Some(PoolId(1)),
            _ => false,
        })
    });
    let copies = copies.count();
    assert!((880..=1_120).contains(&copies), "{copies}, 1,000 expected, standard deviation 30");
}

#[test]
fn patterns_that_are_too_large_together_are_refused_with_the_configuration() {
    let mut text = String::new();
    for n in 0..60 {
        text += &format!(
            "[gateway.route.r{n}]\npath-regex = '/{n}([a-z]{{1,50}}){{1,80}}'\nanswer.status = 204\n"
        );
    }
    let errors = Config::parse(&text).unwrap_err();
    assert!(errors[0].to_string().contains("patterns"), "{errors:?}");
}

/// The order of docs/gateway.md, with every route looked at.
fn by_the_book(config: &Config, head: &Head<'_>) -> Option<usize> {
    let host = normal_host(head.host);
    let mut best: Option<(_, usize)> = None;
    for (at, route) in config.routes.iter().enumerate() {
        let r = &route.it;
        if !Plan::new(config, r).takes(head) {
            continue;
        }
        let host_rank = match r.host.as_slice() {
            [] => Some((0, 0)),
            hosts => hosts
                .iter()
                .filter_map(|h| match h.0.strip_prefix('*') {
                    Some(below) => {
                        (host.len() > below.len() && host.ends_with(below)).then_some((1, below.len()))
                    }
                    None => (*host == h.0).then_some((2, 0)),
                })
                .max(),
        };
        let below = |p: &PathText| {
            let bare = p.0.trim_end_matches('/');
            head.path == bare || head.path.starts_with(&format!("{bare}/"))
        };
        let path_rank = if let Some(Pattern(pattern)) = &r.path_regex {
            let regex = crate::config::scalar::compile_pattern(pattern).unwrap();
            regex.is_match(head.path.as_bytes()).then_some((2, pattern.len()))
        } else if !r.path.is_empty() {
            r.path.iter().any(|p| p.0 == head.path).then_some((3, 0))
        } else if !r.path_prefix.is_empty() {
            r.path_prefix.iter().filter(|p| below(p)).map(|p| (1, p.0.trim_end_matches('/').len())).max()
        } else {
            Some((0, 0))
        };
        if let (Some(host_rank), Some(path_rank)) = (host_rank, path_rank) {
            let conditions = (!r.method.is_empty(), r.header.len(), r.query.len(), r.cookie.len());
            let rank = (r.priority, host_rank, path_rank, conditions, Reverse(at));
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, at));
            }
        }
    }
    best.map(|(_, at)| at)
}

fn any_route() -> impl Strategy<Value = Route> {
    let hosts = prop::collection::vec(prop::sample::select(vec!["a.b", "b", "*.b", "*.a.b", "c"]), 0..3);
    let path = prop_oneof![
        Just((vec![], vec![], None)),
        prop::sample::select(vec!["/", "/x", "/x/y", "/x/"]).prop_map(|p| (vec![p], vec![], None)),
        prop::collection::vec(prop::sample::select(vec!["/", "/x", "/x/y", "/x/"]), 1..3).prop_map(|p| (
            vec![],
            p,
            None
        )),
        prop::sample::select(vec!["/x.*", "/[a-z]", "/x/y"]).prop_map(|p| (vec![], vec![], Some(p))),
    ];
    (hosts, path, 0i32..2, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(hosts, (path, prefix, regex), priority, method, header, query, cookie)| {
            let mut route = Route { priority: priority * 5, ..Route::default() };
            route.host = hosts.into_iter().map(|h| HostPattern(h.to_owned())).collect();
            route.path = path.into_iter().map(|p| PathText(p.to_owned())).collect();
            route.path_prefix = prefix.into_iter().map(|p| PathText(p.to_owned())).collect();
            route.path_regex = regex.map(|p| Pattern(p.to_owned()));
            use crate::config::route::Answer;
            use crate::config::scalar::{HeaderName, Method, Parameter};
            route.answer = Some(Answer::default());
            if method {
                route.method = vec![Method("GET".to_owned())];
            }
            if header {
                route.header = vec![(HeaderName("h".to_owned()), Test::Present)];
            }
            if query {
                route.query = vec![(Parameter("q".to_owned()), Test::Is("1".to_owned()))];
            }
            if cookie {
                route.cookie = vec![(Parameter("c".to_owned()), Test::Absent)];
            }
            route
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn the_compiled_router_agrees_with_the_documented_order(
        routes in prop::collection::vec(any_route(), 1..12),
        host in prop::sample::select(vec!["a.b", "b", "x.a.b", "c", "z"]),
        path in prop::sample::select(vec!["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy"]),
        method in prop::sample::select(vec!["GET", "POST"]),
        bits in 0u8..8,
    ) {
        let named = |(at, it): (usize, Route)| crate::config::Named { name: format!("r{at}"), it };
        let config = Config { routes: routes.into_iter().enumerate().map(named).collect(), ..Config::default() };
        let router = Router::new(&config).unwrap();
        let url = format!("{host}{path}{}", if bits & 1 > 0 { "?q=1" } else { "" });
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        if bits & 2 > 0 { headers.push(("H", b"1")); }
        if bits & 4 > 0 { headers.push(("cookie", b"c=1")); }
        with_head(&Ask { method, url: &url, headers: &headers, listener: Some(0) }, |head| {
            let found = router.find(head).map(|m| m.route.at());
            assert_eq!(found, by_the_book(&config, head), "{url} {}", config.text());
        });
    }
}

#[test]
fn a_request_may_change_to_the_protocols_of_its_route_only() {
    let config = config(
        "[gateway.route.web]\npath = '/web'\nanswer.status = 204\n[gateway.route.none]\npath = '/none'\nanswer.status = 204\n\
         upgrades = []\n[gateway.route.own]\npath = '/own'\nanswer.status = 204\nupgrades = ['Tcp', 'SPDY/3.1']\n",
    );
    let router = Router::new(&config).unwrap();
    for (path, connection, upgrade, expected) in [
        ("h/web", "upgrade", "websocket", Some("websocket")),
        ("h/web", "close , Upgrade", "foo, WebSocket", Some("websocket")),
        ("h/web", "keep-alive", "websocket", None),
        ("h/web", "upgrade", "h2c", None),
        ("h/web", "upgrade", "websocket/13", None),
        ("h/web", "upgrade", "", None),
        ("h/none", "upgrade", "websocket", None),
        ("h/own", "upgrade", "websocket, spdy/3.1, tcp", Some("spdy/3.1")),
    ] {
        let headers: &[(&str, &[u8])] =
            &[("connection", connection.as_bytes()), ("upgrade", upgrade.as_bytes())];
        let found = with_head(&Ask { headers, ..get(path) }, |head| {
            router.find(head).unwrap().plan.upgrade(head.headers).map(str::to_owned)
        });
        assert_eq!(found.as_deref(), expected, "{path} {connection} {upgrade}");
    }
}

#[test]
fn a_path_that_another_server_may_read_as_one_of_another_route_is_told() {
    let config = config(
        "[gateway.route.open]\nanswer.status = 204\n[gateway.route.admin]\npath-prefix = '/admin'\nanswer.status = 204\n\
         [gateway.route.deep]\nhost = 'deep'\npath-regex = '/a/.+'\nanswer.status = 204\n",
    );
    let router = Router::new(&config).unwrap();
    for (url, expected) in [
        ("h/x", true),
        ("h/x%2Fy;z//", true),
        ("h/admin/x", true),
        ("h/admin/x%2Fy", true),
        ("h//admin/x", false),
        ("h/admin%2Fx", false),
        ("h/%2Fadmin", false),
        ("h/%5cadmin", false),
        ("h/admin;x/y", false),
        ("h/x;%2Fadmin", true),
        ("h/;%2Fadmin", false),
        ("h/a%2F..%2Fadmin/x", false),
        ("h/a/..;/admin/x", false),
        ("h/a/..;/x", false),
        ("deep/a/b%2Fc", true),
        ("deep/a/%2F", false),
        ("other/a/%2F", true),
    ] {
        let found = with_head(&get(url), |head| router.reads_alike(head, router.find(head).unwrap().route));
        assert_eq!(found, expected, "{url}");
    }
}

#[test]
fn a_group_of_a_pattern_cannot_lead_out_of_where_its_path_is_put() {
    let text =
        "[gateway.pool.p]\nupstreams = ['a:1']\n[gateway.route.r]\npath-regex = '/v1(.*)'\npool = 'p'\n";
    let router = Router::new(&config(&format!("{text}rewrite.path = '/in/$1'\n"))).unwrap();
    for (url, expected) in [
        ("h/v1x", Some("/in/x")),
        ("h/v1..x", Some("/in/..x")),
        ("h/v1...", Some("/in/...")),
        ("h/v1/x", Some("/in/x")),
        ("h/v1a%2Fb;c", Some("/in/a%2Fb;c")),
        ("h/v1../admin", None),
        ("h/v1./x", None),
        ("h/v1..", None),
        ("h/v1.", None),
        ("h/v1x/.", Some("/in/x/")),
        ("h/v1..%2fsecret", None),
        ("h/v1..%5Csecret", None),
        ("h/v1..;x/secret", None),
        ("h/v1..%3Bx", None),
    ] {
        let path = with_head(&get(url), |head| {
            assert!(router.reads_alike(head, RouteId(0)), "{url} is one of no other route as it is");
            match router.find(head).unwrap().action(head, &mut Rng::new(1)) {
                Action::Forward(forward) => Some(forward.path.into_owned()),
                Action::Refuse(_) => None,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(path.as_deref(), expected, "INV-GATE-2: {url}");
    }
    for (merges, expected) in [(true, "\"/evil.com\""), (false, "\"//evil.com\"")] {
        let text = format!("[gateway]\nmerge-slashes = {merges}\n{text}rewrite.path = '/$1'\n");
        let found = action(&text, &get("h/v1/evil.com"));
        assert!(found.contains(expected), "another host to who reads // as one: {found}");
    }
    let halves = "[gateway.pool.p]\nupstreams = ['a:1']\n[gateway.route.r]\npath-regex = '/(..).*'\nrewrite.path = '/in/$1'\n\
                  pool = 'p'\n";
    assert!(action(halves, &get("h/%C3%A9")).starts_with("Refuse"), "half an escape is none");
    assert!(action(halves, &get("h/abc")).contains("\"/in/ab\""));
    let dollars =
        "[gateway.pool.p]\nupstreams = ['a:1']\n[gateway.route.r]\nrewrite.path = '/$$1/$$'\npool = 'p'\n";
    assert!(action(dollars, &get("h/")).contains("\"/$1/$\""), "as with a pattern");
}

#[test]
fn the_headers_that_a_configuration_goes_by_are_known() {
    let config = config(
        "[gateway.pool.p]\nupstreams = ['a:1']\nhash-by = 'header:X-Shard'\n[gateway.limit.l]\nby = 'header:x-key'\n\
         [gateway.auth.k]\nkeys = { header = 'x-api', callers = [] }\n[gateway.route.r]\nheader = { X-Internal = '!*' }\n\
         importance-header = 'x-level'\npool = 'p'\nsplit-by = 'cookie:c'\nidempotency.by = ['x-account', 'x-key']\n",
    );
    let router = Router::new(&config).unwrap();
    assert_eq!(**router.headers(), ["x-account", "x-api", "x-internal", "x-key", "x-level", "x-shard"]);
}

/// A server as its upstream could be: what it makes of a path before it looks for whom it is.
type Server = fn(&str) -> String;

fn decoded(path: &str) -> String {
    String::from_utf8_lossy(&unescape(&path.replace('+', "%2B"))).into_owned()
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/")
}

/// Dot segments removed as a file system does, where adjacent slashes are one.
fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
        match segment {
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

const SERVERS: [(&str, Server); 7] = [
    ("takes it as it is", |path| path.to_owned()),
    ("merges and resolves", resolved),
    ("decodes, then resolves", |path| resolved(&decoded(path))),
    ("decodes with backslashes as slashes", |path| resolved(&decoded(path).replace('\\', "/"))),
    ("cuts parameters, then decodes and resolves", |path| resolved(&decoded(&without_parameters(path)))),
    ("decodes, cuts parameters, then resolves", |path| resolved(&without_parameters(&decoded(path)))),
    ("cuts parameters, then resolves and decodes", |path| decoded(&resolved(&without_parameters(path)))),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_server_finds_in_a_path_a_route_whose_rules_were_not_asked(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "/", "/", "//", "a", "admin", "adm%69n", "%2F", "%2f", "%5C", "\\", ";", ";x", "%3b", "..", ".", "%2e", "%20",
            ]),
            0..9,
        ),
        merges: bool,
    ) {
        let text = "[gateway.route.open]\nanswer.status = 204\n[gateway.route.admin]\npath-prefix = '/admin'\nanswer.status = 204\n";
        let config = config(&format!("[gateway]\nmerge-slashes = {merges}\n{text}"));
        let router = Router::new(&config).unwrap();
        let raw = format!("/{}", parts.concat());
        if let Ok(path) = request_path(&config, &raw) {
            let none: &[(&str, &[u8])] = &[];
            let ask = Ask { headers: none, ..get("h/") };
            with_head(&ask, |head| {
                let head = Head { path: &path, ..*head };
                let found = router.find(&head).unwrap();
                if router.reads_alike(&head, found.route) {
                    let open = config.routes[found.route.at()].name == "open";
                    for (server, read) in SERVERS {
                        let read = read(&path);
                        let is_admin = read == "/admin" || read.starts_with("/admin/");
                        assert_eq!(is_admin, !open, "{raw} as {path}, by one that {server}: {read}");
                    }
                }
            });
        }
    }
}
