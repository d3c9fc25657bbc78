//! `[gateway.auth.NAME]`: a way in which callers prove who they are; and what a route asks of them.

use skep_base::Micros;
use toml::de::DeValue;

use super::fields::{Fields, Scalar, Section};
use super::scalar::{HeaderName, Parameter, Test, quoted, text_forms};

/// Callers by key of one `[gateway.auth.NAME]`; users of one.
pub const CALLERS_MAX: usize = 10_000;
/// The longest name of a caller, of a user and of a scope.
pub const CALLER_BYTES_MAX: usize = 256;
/// bcrypt's cost: below it a hash is soon guessed, above it a check takes seconds.
const BCRYPT_COST: std::ops::RangeInclusive<u8> = 4..=14;

/// One way; exactly one of the three is there.
#[derive(Clone, PartialEq, Debug)]
pub struct Auth {
    pub keys: Option<Keys>,
    pub basic: Option<Basic>,
    pub jwt: Option<Jwt>,
    /// In which upstreams are told the caller's name.
    pub caller_header: HeaderName,
    /// What the client is told that it is asked for.
    pub realm: Realm,
}

/// Random keys, each of which is one caller's.
#[derive(Clone, PartialEq, Debug)]
pub struct Keys {
    /// The header that holds the key, alone or behind `Bearer`.
    pub header: HeaderName,
    /// The query parameter that may hold it instead.
    pub query: Option<Parameter>,
    /// Whether the upstream gets the key, too.
    pub pass_on: bool,
    pub callers: Vec<KeyCaller>,
}

/// A key, as its hash. A caller may have several.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KeyCaller {
    pub name: CallerName,
    pub sha256: KeyHash,
    pub scopes: Vec<CallerName>,
}

/// Names and passwords (RFC 7617).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Basic {
    /// As `htpasswd -B` writes it; read again when it changes.
    pub file: Option<String>,
    pub users: Vec<(CallerName, PasswordHash)>,
    pub pass_on: bool,
}

/// Tokens signed by somebody who is trusted (RFC 7519).
#[derive(Clone, PartialEq, Debug)]
pub struct Jwt {
    /// A URL or a file of a set of keys (RFC 7517).
    pub jwks: Option<String>,
    /// A file with the secret of HS256.
    pub secret_file: Option<String>,
    /// Who must have made the token; `*` for anybody who has a key of the set.
    pub issuer: Vec<String>,
    /// For whom it must be; `*` for anybody.
    pub audience: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Micros,
    /// The claim that is the caller's name.
    pub caller: ClaimName,
    /// The claim that holds scopes.
    pub scopes: ClaimName,
    /// Headers for the upstream, each from a claim.
    pub headers: Vec<(HeaderName, ClaimName)>,
    /// Where a token may be beside `Authorization: Bearer`.
    pub query: Option<Parameter>,
    pub cookie: Option<Parameter>,
    pub pass_on: bool,
    /// How long a set of keys from a URL is used before it is fetched again.
    pub refresh: Micros,
    /// The least time between two fetches because of keys that the set has not.
    pub refetch: Micros,
}

/// What a route asks of a caller beside being known.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Require {
    /// One of these.
    pub callers: Vec<CallerName>,
    /// All of these.
    pub scopes: Vec<CallerName>,
    pub claims: Vec<(ClaimName, Test)>,
}

impl Default for Auth {
    fn default() -> Auth {
        let caller_header = HeaderName("x-skep-caller".to_owned());
        Auth { keys: None, basic: None, jwt: None, caller_header, realm: Realm("skep".to_owned()) }
    }
}

impl Default for Keys {
    fn default() -> Keys {
        let header = HeaderName("x-api-key".to_owned());
        Keys { header, query: None, pass_on: false, callers: Vec::new() }
    }
}

impl Default for Jwt {
    fn default() -> Jwt {
        Jwt {
            jwks: None,
            secret_file: None,
            issuer: Vec::new(),
            audience: Vec::new(),
            leeway: Micros::from_secs(30),
            caller: ClaimName("sub".to_owned()),
            scopes: ClaimName("scope".to_owned()),
            headers: Vec::new(),
            query: None,
            cookie: None,
            pass_on: true,
            refresh: Micros::from_secs(600),
            refetch: Micros::from_secs(10),
        }
    }
}

impl Section for Auth {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.maybe_section("keys", &mut self.keys);
        f.maybe_section("basic", &mut self.basic);
        f.maybe_section("jwt", &mut self.jwt);
        f.one("caller-header", &mut self.caller_header);
        f.one("realm", &mut self.realm);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        let ways = [self.keys.is_some(), self.basic.is_some(), self.jwt.is_some()];
        match ways.iter().filter(|is| **is).count() {
            1 => {}
            0 => wrong.push(("keys", "is missing; there must be one of keys, basic, jwt".to_owned())),
            _ => wrong.push(("keys", "is one of several; there must be one of keys, basic, jwt".to_owned())),
        }
        if let Some(what) = not_for_identity(&self.caller_header) {
            wrong.push(("caller-header", what));
        }
    }
}

/// Why a header cannot tell upstreams who calls, if it cannot: it would be removed from requests of all clients.
fn not_for_identity(name: &HeaderName) -> Option<String> {
    const TAKEN: [&str; 10] = [
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "forwarded",
        "host",
        "te",
        "transfer-encoding",
        "upgrade",
        "content-type",
    ];
    TAKEN.contains(&&*name.0).then(|| format!("is {}, which requests have for another purpose", name.0))
}

impl Section for Keys {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("header", &mut self.header);
        f.maybe("query", &mut self.query);
        f.one("pass-on", &mut self.pass_on);
        f.sections("callers", &mut self.callers, CALLERS_MAX);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        let mut hashes: Vec<&KeyHash> = self.callers.iter().map(|c| &c.sha256).collect();
        hashes.sort();
        if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
            wrong.push(("callers", "holds one key twice; nobody could say whose it is".to_owned()));
        }
    }
}

impl Section for KeyCaller {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("name", &mut self.name);
        f.one("sha256", &mut self.sha256);
        f.list("scopes", &mut self.scopes, 100);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.name.0.is_empty() {
            wrong.push((
                "name",
                "is missing; it is how limits, logs and upstreams know the caller".to_owned(),
            ));
        }
        if self.sha256.0.is_empty() {
            wrong.push(("sha256", "is missing; it is the hash of the caller's key".to_owned()));
        }
    }
}

impl Section for Basic {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.maybe("file", &mut self.file);
        f.map("users", &mut self.users, CALLERS_MAX);
        f.one("pass-on", &mut self.pass_on);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.file.is_none() && self.users.is_empty() {
            wrong.push(("file", "is missing; there must be a file, or users, or both".to_owned()));
        }
    }
}

impl Section for Jwt {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.maybe("jwks", &mut self.jwks);
        f.maybe("secret-file", &mut self.secret_file);
        f.list("issuer", &mut self.issuer, 100);
        f.list("audience", &mut self.audience, 100);
        f.ranged("leeway", &mut self.leeway, Micros(0)..=Micros::from_secs(600));
        f.one("caller", &mut self.caller);
        f.one("scopes", &mut self.scopes);
        f.map("headers", &mut self.headers, 50);
        f.maybe("query", &mut self.query);
        f.maybe("cookie", &mut self.cookie);
        f.one("pass-on", &mut self.pass_on);
        f.ranged("refresh", &mut self.refresh, Micros::from_secs(1)..=Micros::from_secs(7 * 86_400));
        f.ranged("refetch", &mut self.refetch, Micros::from_secs(1)..=Micros::from_secs(3_600));
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.jwks.is_some() == self.secret_file.is_some() {
            wrong.push(("jwks", "must be there, or secret-file, and not both".to_owned()));
        }
        // A token that the same issuer made for somebody else would be taken unless both are said.
        if self.issuer.is_empty() {
            wrong.push(("issuer", "is missing; it says whose tokens count, \"*\" for anybody's".to_owned()));
        }
        if self.audience.is_empty() {
            let what = "is missing; it says for whom tokens must be, \"*\" for anybody";
            wrong.push(("audience", what.to_owned()));
        }
        if let Some(what) = self.headers.iter().find_map(|(name, _)| not_for_identity(name)) {
            wrong.push(("headers", what));
        }
    }
}

impl Section for Require {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.list("callers", &mut self.callers, 1_000);
        f.list("scopes", &mut self.scopes, 100);
        f.map("claims", &mut self.claims, 20);
    }
}

fn plain(text: &str) -> bool {
    (1..=CALLER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

text_forms! {
    /// The name of a caller or of a scope.
    CallerName, "1 to 256 printable characters of ASCII without spaces, : , \" or \\", |text| {
        (plain(text) && !text.contains([' ', ':', ',', '"', '\\'])).then(|| text.to_owned())
    };
    /// The name of a claim, or the names of claims one inside the other with dots between them.
    ClaimName, "the name of a claim, such as sub or realm_access.roles", |text| {
        (plain(text) && !text.contains([' ', '"', '\\'])).then(|| text.to_owned())
    };
    /// What a client shows to who is asked for a password.
    Realm, "1 to 256 printable characters of ASCII without \" or \\", |text| {
        (plain(text) && !text.contains(['"', '\\'])).then(|| text.to_owned())
    };
}

/// The SHA-256 of a key, in 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct KeyHash(pub String);

impl Scalar for KeyHash {
    /// Who writes a key itself here by mistake must not find it in logs.
    const IS_SECRET: bool = true;

    fn form() -> String {
        "the SHA-256 of the key in 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints it".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<KeyHash> {
        let text = value.as_str()?;
        let is = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is.then(|| KeyHash(text.to_ascii_lowercase()))
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}

/// A bcrypt hash of a password, as `htpasswd -nbB` prints it behind the name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PasswordHash(pub String);

impl PasswordHash {
    /// A hash that can be checked.
    pub fn of(text: &str) -> Option<PasswordHash> {
        let rest = ["$2y$", "$2b$", "$2a$"].iter().find_map(|kind| text.strip_prefix(kind))?;
        let (cost, rest) = rest.split_once('$')?;
        let is_base64 = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
        let costs = cost.len() == 2 && cost.parse().is_ok_and(|cost: u8| BCRYPT_COST.contains(&cost));
        (costs && rest.len() == 53 && is_base64).then(|| PasswordHash(text.to_owned()))
    }
}

impl Scalar for PasswordHash {
    const IS_SECRET: bool = true;

    fn form() -> String {
        let (low, high) = (BCRYPT_COST.start(), BCRYPT_COST.end());
        format!("a bcrypt hash of cost {low} to {high}, as `htpasswd -nbB NAME PASSWORD` prints it")
    }

    fn read(value: &DeValue<'_>) -> Option<PasswordHash> {
        PasswordHash::of(value.as_str()?)
    }

    fn show(&self) -> String {
        quoted(&self.0)
    }
}
