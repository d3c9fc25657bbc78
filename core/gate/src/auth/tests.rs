//! Proofs as requests offer them, what they are worth, and what they cannot do.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use skep_base::{Micros, Rng};

use super::keyset::{Alg, Choice, Key, choose};
use super::refresh::{Input, Output, Refresh};
use super::*;
use crate::names::ListenerId;
use crate::router::{Head, Headers};

/// The SHA-256 of `a-key-that-nobody-guesses`.
const KEY: &str = "a-key-that-nobody-guesses";
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu5Zbh9YD7Y6H9hY2cG8G0JrHnBhSLRGa";

fn text() -> String {
    let sha: String = {
        use sha2::{Digest, Sha256};
        Sha256::digest(KEY).iter().map(|b| format!("{b:02x}")).collect()
    };
    let short: String = {
        use sha2::{Digest, Sha256};
        Sha256::digest("short").iter().map(|b| format!("{b:02x}")).collect()
    };
    format!(
        "[gateway.auth.partners]
keys = {{ query = 'api_key', callers = [{{ name = 'acme', sha256 = '{sha}', scopes = ['read', 'write'] }}, {{ name = 's', \
         sha256 = '{short}' }}] }}
[gateway.auth.staff]
basic.users = {{ anna = '{HASH}' }}
caller-header = 'x-user'
[gateway.auth.app]
[gateway.auth.app.jwt]
jwks = 'keys.json'
issuer = 'https://i'
audience = ['api', 'web']
leeway = '10s'
cookie = 'session'
query = 'token'
pass-on = false
headers = {{ x-mail = 'email', x-roles = 'realm.roles' }}
[gateway.route.r]
answer.status = 204
auth = ['partners', 'staff', 'app']
[gateway.route.r.require]
scopes = 'write'
[gateway.route.claims]
path = '/c'
answer.status = 204
auth = 'app'
require.claims = {{ 'realm.roles' = 'admin', blocked = '!*' }}
[gateway.route.open]
path = '/o'
answer.status = 204
"
    )
}

fn rules() -> Rules {
    let config = Config::parse(&text()).unwrap_or_else(|e| panic!("{e:#?}"));
    Rules::new(&config, &[]).unwrap()
}

const KEYS: AuthId = AuthId(0);
const STAFF: AuthId = AuthId(1);
const APP: AuthId = AuthId(2);

struct Lines(Vec<(&'static str, String)>);

impl Headers for Lines {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(n, value)| *n == name && test(value.as_bytes()))
    }
}

fn offered(rules: &Rules, auth: AuthId, name: &'static str, value: &str, query: Option<&str>) -> Offered {
    let headers = &Lines(vec![(name, value.to_owned())]);
    let source: IpAddr = "10.0.0.1".parse().unwrap();
    let (listener, secure, host, path) = (Some(ListenerId(0)), false, "h", "/");
    let head = Head { listener, secure, method: "GET", host, path, query, headers, source, caller: None };
    rules.offered(auth, &head).0
}

#[test]
fn a_key_is_found_by_header_and_query_and_only_by_its_whole_self() {
    let rules = rules();
    let key = |name, value: &str, query: Option<&str>| match offered(&rules, KEYS, name, value, query) {
        Offered::Key(key) => rules.by_key(KEYS, &key).map(|caller| caller.name.clone()),
        Offered::Nothing => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(key("x-api-key", KEY, None).as_deref(), Some("acme"));
    assert_eq!(key("x-api-key", &format!("bearer {KEY}"), None).as_deref(), Some("acme"));
    assert_eq!(key("x", "", Some(&format!("a=1&api_key={KEY}"))).as_deref(), Some("acme"));
    assert_eq!(key("x-api-key", &KEY[1..], None), None);
    assert_eq!(key("x-api-key", &format!("{KEY} "), None), None);
    assert_eq!(
        key("x-api-key", "short", None),
        None,
        "what can be guessed is no key, though its hash is there"
    );
    assert_eq!(offered(&rules, KEYS, "authorization", KEY, None), Offered::Nothing);
}

#[test]
fn a_password_is_taken_apart_and_checked_against_something_in_any_case() {
    let rules = rules();
    let ask = |value: &str| offered(&rules, STAFF, "authorization", value, None);
    let password = |user: &str, password: &str| Offered::Password {
        user: user.to_owned(),
        password: password.as_bytes().to_vec(),
    };
    assert_eq!(ask("Basic YW5uYTpzZTpjcmV0"), password("anna", "se:cret"));
    assert_eq!(ask("basic  YW5uYTo="), password("anna", ""));
    assert_eq!(ask("Bearer YW5uYTpzZTpjcmV0"), Offered::Nothing);
    assert_eq!(ask("Basic ???"), Offered::Bad("it is no base 64"));
    assert_eq!(ask("Basic YW5uYQ=="), Offered::Bad("it has no colon"));
    assert_eq!(ask("Basic YW5uYTphAGI="), Offered::Bad("the password is too long"), "a zero byte");
    let anna = rules.password(STAFF, b"salt", "anna", b"p").unwrap();
    let other = rules.password(STAFF, b"salt", "bert", b"p").unwrap();
    assert!(anna.is_known && !other.is_known);
    assert_eq!((anna.hash.as_str(), other.hash.as_str()), (HASH, HASH), "an unknown user takes as long");
    assert_ne!(anna.digest, other.digest);
    assert_ne!(anna.digest, rules.password(STAFF, b"salt", "anna", b"q").unwrap().digest);
    // A user who is gone, and whose hash another has: what was remembered of the one says nothing of the other.
    let rules_of = |file: &str| {
        let users = vec![Vec::new(), parse_users(file).unwrap()];
        let text = text().replace(&format!("basic.users = {{ anna = '{HASH}' }}"), "basic.file = 'f'");
        Rules::new(&Config::parse(&text).unwrap(), &users)
            .unwrap()
            .password(STAFF, b"salt", "anna", b"p")
            .unwrap()
    };
    let (there, gone) = (rules_of(&format!("anna:{HASH}")), rules_of(&format!("bert:{HASH}")));
    assert!(there.is_known && !gone.is_known && there.hash == gone.hash && there.digest != gone.digest);
    assert_eq!(rules.by_password(STAFF, "anna").headers, [("x-user".to_owned(), b"anna".to_vec())]);
}

#[test]
fn a_file_of_users_is_read_or_refused_by_line_without_its_secrets() {
    let good = format!("# staff\n\nanna:{HASH}\n  bert:{HASH}\n");
    assert_eq!(parse_users(&good).unwrap().len(), 2);
    for (text, what) in [
        ("anna", "line 1 is no NAME:HASH"),
        ("\nanna:geheim", "line 2: what anna has must be a bcrypt hash of cost 4 to 14, as"),
        ("anna:$apr1$abc$def", "line 1: what anna has must be a bcrypt hash"),
        ("a b:x", "line 1: `a b` must be 1 to 256 printable characters"),
    ] {
        let told = parse_users(text).unwrap_err();
        assert!(told.starts_with(what) && !told.contains("geheim"), "{told}");
    }
    let slow = HASH.replace("$04$", "$15$");
    assert!(parse_users(&format!("anna:{slow}")).is_err(), "a check would take seconds");
}

fn claims(changes: Value) -> Value {
    let mut all = json!({ "iss": "https://i", "aud": "api", "exp": 1_000, "sub": "u1", "scope": "read write",
        "email": "u@x", "realm": { "roles": ["admin", "a,b"] } });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => all.as_object_mut().unwrap().remove(name),
            value => all.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    all
}

#[test]
fn claims_that_do_not_fit_are_refused_each_for_its_reason() {
    let rules = rules();
    let judge =
        |changes, now| rules.by_claims(APP, claims(changes), now).map(|(caller, until)| (caller.name, until));
    let good = Ok(("u1".to_owned(), 1_010));
    for (changes, now, expected) in [
        (json!({}), 999, good.clone()),
        (json!({}), 1_009, good.clone()),
        (json!({}), 1_010, Err(TokenFault::Ended)),
        (json!({ "exp": 1000.9 }), 999, good.clone()),
        (json!({ "exp": "1000" }), 0, Err(TokenFault::NoEnd)),
        (json!({ "exp": -1 }), 0, Err(TokenFault::NoEnd)),
        (json!({ "exp": null }), 0, Err(TokenFault::NoEnd)),
        (json!({ "nbf": 510 }), 500, good.clone()),
        (json!({ "nbf": 511 }), 500, Err(TokenFault::Early)),
        (json!({ "nbf": "soon" }), 500, Err(TokenFault::Early)),
        (json!({ "iss": "https://j" }), 0, Err(TokenFault::Issuer)),
        (json!({ "iss": ["https://i"] }), 0, Err(TokenFault::Issuer)),
        (json!({ "iss": null }), 0, Err(TokenFault::Issuer)),
        (json!({ "aud": ["x", "web"] }), 0, good.clone()),
        (json!({ "aud": ["x"] }), 0, Err(TokenFault::Audience)),
        (json!({ "aud": null }), 0, Err(TokenFault::Audience)),
        (json!({ "sub": null }), 0, Err(TokenFault::NoName)),
        (json!({ "sub": "a\r\nx: y" }), 0, Err(TokenFault::NoName)),
        (json!({ "sub": ["u1"] }), 0, Err(TokenFault::NoName)),
        (json!({ "email": "a\nb" }), 0, Err(TokenFault::NoHeader)),
    ] {
        assert_eq!(judge(changes.clone(), now), expected, "{changes} at {now}");
    }
    assert_eq!(rules.by_claims(APP, json!("text"), 0), Err(TokenFault::NoObject));
}

#[test]
fn claims_become_headers_in_which_no_item_looks_like_two() {
    let rules = rules();
    let (caller, _) = rules.by_claims(APP, claims(json!({})), 0).unwrap();
    let text: Vec<(&str, &str)> =
        caller.headers.iter().map(|(n, v)| (n.as_str(), std::str::from_utf8(v).unwrap())).collect();
    assert_eq!(text, [("x-skep-caller", "u1"), ("x-mail", "u@x"), ("x-roles", "[\"admin\",\"a,b\"]")]);
    let own: Vec<&str> = rules.own_headers().collect();
    assert_eq!(
        own,
        ["x-skep-caller", "x-user", "x-mail", "x-roles"],
        "each is removed from what clients send"
    );
}

#[test]
fn a_caller_needs_all_that_its_route_requires() {
    let rules = rules();
    let caller = |changes| rules.by_claims(APP, claims(changes), 0).unwrap().0;
    let (scopes, of_claims) = (RouteId(0), RouteId(1));
    assert_eq!(rules.permits(scopes, &caller(json!({}))), Ok(()));
    assert_eq!(rules.permits(scopes, &caller(json!({ "scope": "writer read" }))), Err(Lacking::Scope));
    assert_eq!(rules.permits(scopes, &caller(json!({ "scope": ["write"] }))), Ok(()));
    assert_eq!(rules.permits(of_claims, &caller(json!({}))), Ok(()));
    assert_eq!(rules.permits(of_claims, &caller(json!({ "blocked": true }))), Err(Lacking::Claim));
    assert_eq!(rules.permits(of_claims, &caller(json!({ "realm": {} }))), Err(Lacking::Claim));
    let acme = rules.by_key(KEYS, KEY.as_bytes()).unwrap();
    assert_eq!(rules.permits(scopes, acme), Ok(()));
    assert_eq!(rules.permits(of_claims, acme), Err(Lacking::Claim), "a key has no claims");
    assert_eq!(rules.permits(scopes, &rules.by_password(STAFF, "anna")), Err(Lacking::Scope));
    assert!(rules.ways(RouteId(2)).is_empty());
    let app = caller(json!({ "sub": "acme" }));
    assert_ne!(app.key, acme.key, "one name, two callers");
    assert_eq!(
        rules.challenges(scopes, Refusal::NotAllowed(Lacking::Scope)),
        [
            "ApiKey realm=\"skep\", header=\"x-api-key\"",
            "Basic realm=\"skep\", charset=\"UTF-8\"",
            "Bearer realm=\"skep\", error=\"insufficient_scope\", scope=\"write\""
        ]
    );
}

#[test]
fn a_token_is_taken_from_where_it_may_be_and_hidden_there() {
    let rules = rules();
    let token = |name, value: &str, query| offered(&rules, APP, name, value, query);
    assert_eq!(token("authorization", "Bearer a.b.c", None), Offered::Token("a.b.c".to_owned()));
    assert_eq!(token("cookie", "a=1; session=a.b.c", None), Offered::Token("a.b.c".to_owned()));
    assert_eq!(token("x", "", Some("token=a.b.c")), Offered::Token("a.b.c".to_owned()));
    assert_eq!(token("authorization", "Basic a.b.c", None), Offered::Nothing);
    let long = "x".repeat(17_000);
    assert_eq!(token("authorization", &format!("Bearer {long}"), None), Offered::Bad("it is no token"));
    assert_eq!(without_parameter("a=1&token=x&b=2&t%6fken=y", "token"), "a=1&b=2");
    assert_eq!(without_parameter("a=1", "token"), "a=1");
}

#[test]
fn nothing_that_could_be_a_proof_goes_on_beside_the_one_that_was_verified() {
    let passes =
        Rules::new(&Config::parse(&text().replace("pass-on = false", "pass-on = true")).unwrap(), &[]);
    let (hides, passes) = (rules(), passes.unwrap());
    let (all, claims) = (RouteId(0), RouteId(1));
    // What of a request that holds proofs in all places goes on.
    let left = |rules: &Rules, route, way, place| {
        let hidden = rules.hidden(route, way, place);
        let headers = ["authorization", "x-api-key", "accept"];
        let queries = ["token", "api_key", "page"];
        let cookies = hidden.cookie_lines([&b"session=1; a=2; session=3"[..], b"session=4;session"]);
        let cookies = cookies.into_iter().map(|line| String::from_utf8(line).unwrap());
        let left = headers.into_iter().filter(|name| !hidden.headers.contains(name));
        let left = left.chain(queries.into_iter().filter(|name| !hidden.queries.contains(name)));
        left.map(str::to_owned).chain(cookies).collect::<Vec<_>>().join(" ")
    };
    for (rules, route, way, place, expected) in [
        (&passes, all, APP, Place::Header, "authorization accept page a=2"),
        (&passes, all, APP, Place::Query, "accept token page a=2"),
        (&passes, all, APP, Place::Cookie, "accept page session=1; a=2"),
        (&passes, all, KEYS, Place::Header, "accept page a=2"),
        (&passes, all, STAFF, Place::Header, "accept page a=2"),
        (&hides, all, APP, Place::Header, "accept page a=2"),
        (&hides, all, APP, Place::Cookie, "accept page a=2"),
        (&passes, claims, APP, Place::Header, "authorization x-api-key accept api_key page a=2"),
        (&hides, claims, APP, Place::Cookie, "x-api-key accept api_key page a=2"),
    ] {
        assert_eq!(left(rules, route, way, place), expected, "INV-GATE-16: {route:?} {way:?} {place:?}");
    }
    // Not what the gateway took for a cookie, so not what it verified.
    let hidden = passes.hidden(all, APP, Place::Cookie);
    let lines = hidden.cookie_lines([&b"session =forged; session=real"[..]]);
    assert_eq!(lines, [b"session=real".to_vec()]);
    assert!(!hidden.leaves_cookies() && Hidden::default().leaves_cookies());
}

#[test]
fn a_proof_that_is_there_twice_is_none() {
    let rules = rules();
    let repeated = |route, lines: &[(&'static str, &str)], query| {
        let headers = &Lines(lines.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
        let (source, listener) = ("10.0.0.1".parse().unwrap(), Some(ListenerId(0)));
        let (secure, method, host, path, caller) = (false, "GET", "h", "/", None);
        rules
            .repeated(route, &Head { listener, secure, method, host, path, query, headers, source, caller })
            .map(str::to_owned)
    };
    let two = [("authorization", "Bearer a"), ("authorization", "Basic b")];
    let keys = [("x-api-key", "a"), ("x-api-key", "a")];
    for (route, lines, query, expected) in [
        (0, &two[..1], None, None),
        (0, &two[..], None, Some("authorization")),
        (0, &keys[..], None, Some("x-api-key")),
        (1, &keys[..], None, None),
        (2, &two[..], None, None),
        (0, &[], Some("token=a&token=b"), Some("token")),
        (0, &[], Some("api_key=a&%61pi_key"), Some("api_key")),
        (1, &[], Some("api_key=a&api_key=b&token=c"), None),
    ] {
        assert_eq!(
            repeated(RouteId(route), lines, query).as_deref(),
            expected,
            "{route} {lines:?} {query:?}"
        );
    }
}

#[test]
fn the_key_says_the_algorithm_and_not_the_token() {
    let key = |id: Option<&str>, alg| Key { id: id.map(str::to_owned), alg };
    let set = [key(Some("a"), Alg::Rs256), key(Some("b"), Alg::Es256), key(None, Alg::Es256)];
    assert_eq!(choose(&set, Some("a"), Alg::Rs256), Choice::Keys(vec![0]));
    assert_eq!(choose(&set, Some("a"), Alg::Hs256), Choice::Wrong, "no public key is a secret");
    assert_eq!(choose(&set, Some("a"), Alg::Ps256), Choice::Wrong);
    assert_eq!(choose(&set, Some("c"), Alg::Es256), Choice::Unknown);
    assert_eq!(choose(&set, None, Alg::Es256), Choice::Keys(vec![1, 2]));
    assert_eq!(choose(&set, None, Alg::EdDsa), Choice::Unknown);
    let many: Vec<Key> = (0..50).map(|_| key(None, Alg::Es256)).collect();
    assert_eq!(choose(&many, None, Alg::Es256), Choice::Keys(vec![0, 1, 2, 3]));
}

#[test]
fn unknown_keys_fetch_the_set_at_a_bounded_rate_and_a_failing_url_is_left_in_peace() {
    let (every, least) = (Micros::from_secs(600), Micros::from_secs(10));
    let mut refresh = Refresh::new(Micros(0), every, least, 1);
    let (mut rng, mut fetches, mut pending) = (Rng::new(2), Vec::new(), false);
    for step in 0..3_600_000u64 / 50 {
        let now = Micros::from_millis(step * 50);
        let good = !(1_000..2_000).contains(&(now.0 / 1_000_000));
        if pending {
            pending = false;
            refresh.handle(now, Input::Fetched { good });
        }
        // Tokens with keys that nobody has, all the time.
        for input in [Input::Tick, Input::Unknown] {
            if rng.below(2) == 0 && refresh.handle(now, input) == Output::Fetch {
                assert!(!pending, "one at a time");
                pending = true;
                fetches.push(now);
            }
        }
        assert_eq!(refresh.next_wakeup().is_none(), pending);
    }
    for pair in fetches.windows(2) {
        assert!(pair[1].since(pair[0]) >= Micros::from_secs(1), "{pair:?}");
    }
    assert!((300..=900).contains(&fetches.len()), "{} in an hour", fetches.len());
    let mut quiet = Refresh::new(Micros(0), every, least, 1);
    assert_eq!(quiet.handle(Micros(0), Input::Tick), Output::Fetch);
    assert_eq!(quiet.handle(Micros(1), Input::Unknown), Output::Wait);
    quiet.handle(Micros(2), Input::Fetched { good: true });
    let next = quiet.next_wakeup().unwrap();
    assert!((540..=600).contains(&(next.0 / 1_000_000)), "{next:?}");
    assert_eq!(quiet.handle(Micros(3), Input::Unknown), Output::Nothing, "it was fetched just before");
    assert_eq!(quiet.handle(least.plus(Micros(1)), Input::Unknown), Output::Fetch);
}

#[test]
fn what_is_remembered_ends_in_time_and_its_room_is_bounded() {
    let mut memory = Memory::default();
    let caller = Arc::clone(rules().by_key(KEYS, KEY.as_bytes()).unwrap());
    let proof = |until_secs, bytes| Remembered { caller: Arc::clone(&caller), until_secs, bytes };
    memory.put([1; 32], proof(10, 0));
    assert!(memory.get(&[1; 32], 9).is_some());
    assert!(memory.get(&[1; 32], 10).is_none());
    assert!(memory.get(&[2; 32], 9).is_none());
    for n in 0..100_000u32 {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_le_bytes());
        memory.put(digest, proof(10, if n > 50_000 { 16_000 } else { 10 }));
        assert!(memory.len() <= 10_000);
    }
    assert!(memory.len() <= 2 * ((8 << 20) / 16_000 + 1), "{}", memory.len());
}

#[test]
fn passwords_are_not_guessed_at_any_speed_from_a_network_of_one_customer() {
    let source = |text: String| text.parse().unwrap();
    let mut tries = Tries::default();
    for n in 0..20 {
        assert_eq!(tries.may_try(Micros(0), source(format!("2001:db8:1:2::{n:x}:1"))), Ok(()));
        assert_eq!(tries.may_try(Micros(0), source("192.0.2.1".to_owned())), Ok(()));
    }
    let neighbour = source("2001:db8:1:2:ffff::".to_owned());
    assert!(tries.may_try(Micros(0), neighbour).is_err());
    assert!(tries.may_try(Micros(0), source("192.0.2.1".to_owned())).is_err());
    assert_eq!(tries.may_try(Micros(0), source("2001:db8:1:3::1".to_owned())), Ok(()));
    assert_eq!(tries.may_try(Micros(0), source("192.0.2.2".to_owned())), Ok(()));
    assert_eq!(tries.may_try(Micros::from_secs(1), neighbour), Ok(()));
}

#[test]
fn secrets_are_in_no_difference_and_in_no_error() {
    let old = Config::parse(&text()).unwrap();
    let new = Config::parse(
        &text().replace("$2y$04$a", "$2y$04$b").replace("'acme', sha256 = '", "'acme', sha256 = '0"),
    );
    assert!(new.is_err());
    let told =
        format!("{:?}", Config::parse(&text().replace("sha256 = '", "sha256 = 'my plain key ")).unwrap_err());
    assert!(told.contains("a text of 77 bytes") && !told.contains("plain"), "{told}");
    let told = format!("{:?}", Config::parse(&text().replace("$2y$04$", "geheim")).unwrap_err());
    assert!(told.contains("must be a bcrypt hash") && !told.contains("geheim"), "{told}");
    let new = Config::parse(&text().replace("$2y$04$a", "$2y$04$b")).unwrap();
    let difference = old.difference(&new);
    assert!(
        difference.starts_with("~ gateway.auth.staff.basic.users.\"anna\" = \"(a secret, "),
        "{difference}"
    );
    assert_eq!(difference.lines().count(), 1, "{difference}");
    assert!(!difference.contains("$2y$"), "{difference}");
    assert!(old.text().contains(HASH), "INV-GATE-1");
    assert_eq!(Config::parse(&old.text()).unwrap(), old);
}

#[test]
fn rules_that_cannot_be_are_told_with_line_and_key() {
    let auth = "[gateway.auth.a]\n";
    let jwt = "[gateway.auth.a.jwt]\njwks = 'k'\nissuer = 'i'\naudience = '*'\n";
    for (text, expected) in [
        (auth.to_owned(), "line 1: `gateway.auth.a.keys` is missing; there must be one of keys, basic, jwt"),
        (format!("{auth}keys = true\nbasic.file = 'f'\n"), "line 2: `gateway.auth.a.keys` is one of several"),
        (format!("{auth}kesy = true\n"), "line 2: `gateway.auth.a.kesy` is not known; did you mean `keys`?"),
        (format!("{auth}basic = true\n"), "line 2: `gateway.auth.a.basic.file` is missing"),
        (
            format!("{auth}jwt.jwks = 'k'\n"),
            "line 2: `gateway.auth.a.jwt.issuer` is missing; it says whose tokens",
        ),
        (
            format!("{jwt}secret-file = 's'\n"),
            "line 2: `gateway.auth.a.jwt.jwks` must be there, or secret-file",
        ),
        (
            format!("{jwt}headers = {{ host = 'sub' }}\n"),
            "line 5: `gateway.auth.a.jwt.headers` is host, which requests have for another purpose",
        ),
        (
            format!("{auth}keys = true\n[gateway.route.r]\nanswer.status = 204\nauth = 'b'\n"),
            "line 5: `gateway.route.r.auth` is `b`; there is no gateway.auth of this name; did you mean `a`?",
        ),
        (
            "[gateway.route.r]\nanswer.status = 204\nrequire.scopes = 'x'\n".to_owned(),
            "line 3: `gateway.route.r.require` needs auth, since nobody is known without",
        ),
    ] {
        let errors = Config::parse(&text).expect_err("it must be refused");
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|told| told.starts_with(expected)), "{told:#?}\n{text}");
    }
}
