//! Lets in who proved to call, by the decisions of `skep_gate::auth`.
//!
//! Owns the slow steps in between: passwords are hashed on threads of their own, signatures are verified here, sets of keys
//! come from control. Keeps no proof, only digests of those that were right.

mod fetch;
pub mod keyset;
mod password;
mod sources;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Response;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use skep_base::Micros;
use skep_gate::auth::{Caller, Hidden, Offered, Place, Refusal, Remembered, Rules, parse_users};
use skep_gate::protect::headers::retry_after as retry_after_text;
use skep_gate::router::Head;
use skep_gate::{AuthId, Config, RouteId};
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(crate) use keyset::KeySet;
pub(crate) use password::Hashing;
pub(crate) use sources::{Ask, Source, Sources};

use crate::core::Core;
use crate::reply::Reply;
use crate::tls::changed;

/// How long a request waits for a set of keys that is fetched.
const FETCH_WAIT: Duration = Duration::from_secs(5);
/// A file of users or of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Until it is worth asking again for what is not there at the moment.
const LATER: Micros = Micros::from_secs(1);

/// What is in force of `[gateway.auth]`, with the files that it names read.
#[derive(Debug)]
pub(crate) struct AuthPlan {
    pub(crate) rules: Arc<Rules>,
    /// By way.
    sets: Vec<Option<Set>>,
    files: Vec<(String, Option<SystemTime>)>,
}

/// Where a way's keys of tokens are.
#[derive(Debug)]
enum Set {
    Fixed(Arc<KeySet>),
    Url(Source),
}

/// Who was let in, and by which way.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) caller: Arc<Caller>,
    route: RouteId,
    way: AuthId,
    /// Where the proof was.
    place: Place,
}

impl Known {
    /// What of the request does not go on.
    pub(crate) fn hidden<'r>(&self, rules: &'r Rules) -> Hidden<'r> {
        rules.hidden(self.route, self.way, self.place)
    }

    /// The parameters that may hold a proof.
    pub(crate) fn proofs<'r>(&self, rules: &'r Rules) -> impl Iterator<Item = &'r str> + use<'r> {
        rules.ways(self.route).iter().filter_map(|way| rules.places(*way).query)
    }
}

/// Why a request is not let in.
pub(crate) enum Denied {
    Refused(Refusal),
    /// 400: this may hold a proof, and is there more than once.
    Repeated(String),
    /// 429: too many tries of this client.
    TooMany(Micros),
    /// 503: it cannot be judged at the moment; why.
    Later(&'static str),
}

impl AuthPlan {
    /// Reads the files of a checked configuration, and follows its URLs; none if it has no `auth`.
    ///
    /// # Errors
    /// A sentence with the key and the file.
    pub(crate) fn compile(config: &Config, sources: &mut Sources) -> Result<Option<AuthPlan>, String> {
        let (mut files, mut users, mut sets) = (Vec::new(), Vec::new(), Vec::new());
        let mut read = |name: &str| -> Result<String, String> {
            // Before reading, so that a change in between is seen.
            files.push((name.to_owned(), changed(name)));
            let length = fs::metadata(name).map_err(|e| format!("{name}: {e}"))?.len();
            if length > FILE_BYTES_MAX {
                return Err(format!("{name}: is {length} bytes, the limit is {FILE_BYTES_MAX}"));
            }
            fs::read_to_string(name).map_err(|e| format!("{name}: {e}"))
        };
        for auth in &config.auths {
            let at = |key: &str, what: String| format!("gateway.auth.{}.{key}: {what}", auth.name);
            let file = auth.it.basic.as_ref().and_then(|basic| basic.file.as_ref());
            users.push(match file {
                None => Vec::new(),
                Some(file) => read(file)
                    .and_then(|text| parse_users(&text).map_err(|what| format!("{file}: {what}")))
                    .map_err(|what| at("basic.file", what))?,
            });
            let Some(jwt) = &auth.it.jwt else {
                sets.push(None);
                continue;
            };
            sets.push(Some(if let Some(file) = &jwt.secret_file {
                let set = read(file)
                    .and_then(|text| KeySet::of_secret(&text).map_err(|what| format!("{file}: {what}")));
                Set::Fixed(Arc::new(set.map_err(|what| at("jwt.secret-file", what))?))
            } else {
                let place = jwt.jwks.as_deref().unwrap_or_default();
                if place.starts_with("http://") || place.starts_with("https://") {
                    let source = sources.follow(place, jwt.refresh, jwt.refetch);
                    Set::Url(source.map_err(|what| at("jwt.jwks", what))?)
                } else {
                    let set = read(place).and_then(|text| {
                        KeySet::read(text.as_bytes()).map_err(|what| format!("{place}: {what}"))
                    });
                    Set::Fixed(Arc::new(set.map_err(|what| at("jwt.jwks", what))?))
                }
            }));
        }
        Ok(Rules::new(config, &users).map(|rules| AuthPlan { rules: Arc::new(rules), sets, files }))
    }

    /// True if a file is another than the one that was read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.files.iter().any(|(file, at)| changed(file) != *at)
    }

    /// The URLs that it needs.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sets.iter().filter_map(|set| match set {
            Some(Set::Url(source)) => Some(source),
            _ => None,
        })
    }
}

pub(crate) fn now_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Who calls, for a route that asks for it; none for one that does not.
///
/// # Errors
/// [`Denied`].
pub(crate) async fn admit(
    core: &Core,
    auth: &AuthPlan,
    route: RouteId,
    head: &Head<'_>,
) -> Result<Option<Known>, Denied> {
    let rules = &auth.rules;
    if rules.ways(route).is_empty() {
        return Ok(None);
    }
    if let Some(name) = rules.repeated(route, head) {
        return Err(Denied::Repeated(name.to_owned()));
    }
    let mut refusal = Refusal::Nothing;
    for way in rules.ways(route).iter().copied() {
        let (offered, place) = rules.offered(way, head);
        let found = match offered {
            Offered::Nothing => continue,
            Offered::Bad(why) => Err(why),
            Offered::Key(key) => rules.by_key(way, &key).cloned().ok_or("nobody has this key"),
            Offered::Password { user, password } => {
                let proof = (user.as_str(), password);
                by_password(core, rules, way, head, proof).await?
            }
            Offered::Token(token) => by_token(core, auth, way, &token).await?,
        };
        match found {
            Ok(caller) => match rules.permits(route, &caller) {
                Ok(()) => return Ok(Some(Known { caller, route, way, place })),
                Err(lacking) => refusal = Refusal::NotAllowed(lacking),
            },
            Err(why) if !matches!(refusal, Refusal::NotAllowed(_)) => refusal = Refusal::Bad(why),
            Err(_) => {}
        }
    }
    Err(Denied::Refused(refusal))
}

/// A caller, or why the proof is none.
type Proved = Result<Arc<Caller>, &'static str>;

async fn by_password(
    core: &Core,
    rules: &Rules,
    way: AuthId,
    head: &Head<'_>,
    (user, password): (&str, Vec<u8>),
) -> Result<Proved, Denied> {
    const WRONG: &str = "the name or the password is wrong";
    let Some(check) = rules.password(way, &core.secret().0, user, &password) else { return Ok(Err(WRONG)) };
    if let Some(caller) = core.memory.borrow_mut().get(&check.digest, now_secs()) {
        return Ok(Ok(caller));
    }
    core.hashing.may_try(head.source).map_err(Denied::TooMany)?;
    let is_right = core.hashing.check(check.hash, password).await;
    match is_right.ok_or(Denied::Later("too many passwords are being checked"))? && check.is_known {
        false => Ok(Err(WRONG)),
        true => {
            let caller = rules.by_password(way, user);
            let proof =
                Remembered { caller: Arc::clone(&caller), until_secs: u64::MAX, bytes: user.len() * 2 };
            core.memory.borrow_mut().put(check.digest, proof);
            Ok(Ok(caller))
        }
    }
}

async fn by_token(core: &Core, auth: &AuthPlan, way: AuthId, token: &str) -> Result<Proved, Denied> {
    let head = match keyset::head(token) {
        Ok(head) => head,
        Err(why) => return Ok(Err(why)),
    };
    let set = auth.sets[way.at()].as_ref().expect("a way with tokens has keys");
    let (keys, source) = match set {
        Set::Fixed(keys) => (Some(Arc::clone(keys)), None),
        Set::Url(source) => (source.current(), Some(source)),
    };
    let unknown = match &keys {
        None => true,
        Some(keys) => match judge(core, auth, way, keys, &head, token) {
            Some(proved) => return Ok(proved),
            None => true,
        },
    };
    // A key that the set has not may be one that the issuer made since.
    if let Some(source) = source.filter(|_| unknown) {
        let (done, is_done) = oneshot::channel();
        source.ask(done);
        // Whatever came of it is seen in the set.
        let _ = timeout(FETCH_WAIT, is_done).await;
        match source.current() {
            None => return Err(Denied::Later("the keys of the issuer of tokens are not there")),
            Some(keys) => {
                if let Some(proved) = judge(core, auth, way, &keys, &head, token) {
                    return Ok(proved);
                }
            }
        }
    }
    Ok(Err("it is signed by a key that is not known"))
}

/// What a token is worth by a set of keys; none if the set has no key for it.
fn judge(
    core: &Core,
    auth: &AuthPlan,
    way: AuthId,
    keys: &KeySet,
    head: &keyset::TokenHead,
    token: &str,
) -> Option<Proved> {
    let now = now_secs();
    let digest = auth.rules.token_digest(way, &core.secret().0, &keys.digest, token);
    if let Some(caller) = core.memory.borrow_mut().get(&digest, now) {
        return Some(Ok(caller));
    }
    let claims = match keys.verify(head, token)? {
        Ok(claims) => claims,
        Err(why) => return Some(Err(why)),
    };
    Some(match auth.rules.by_claims(way, claims, now) {
        Err(fault) => Err(fault.why()),
        Ok((caller, until_secs)) => {
            let caller = Arc::new(caller);
            // JSON takes more room when it is read.
            let proof = Remembered { caller: Arc::clone(&caller), until_secs, bytes: token.len() * 4 };
            core.memory.borrow_mut().put(digest, proof);
            Ok(caller)
        }
    })
}

/// The answer to a request that is not let in.
pub(crate) fn answer(
    denied: &Denied,
    rules: &Rules,
    route: RouteId,
    mut own: impl FnMut(u16, &str) -> Response<Reply>,
) -> Response<Reply> {
    let wait = |mut response: Response<Reply>, wait| {
        if let Ok(value) = retry_after_text(wait).parse() {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        response
    };
    match denied {
        Denied::TooMany(time) => wait(own(429, "too many passwords from this address"), *time),
        Denied::Later(why) => wait(own(503, why), LATER),
        Denied::Repeated(name) => own(400, &format!("{name} is there more than once")),
        Denied::Refused(refusal) => {
            let (status, what) = match refusal {
                Refusal::Nothing => (401, "who calls must be proved".to_owned()),
                Refusal::Bad(why) => (401, format!("who calls is not proved: {why}")),
                Refusal::NotAllowed(_) => (403, "this caller may not do this".to_owned()),
            };
            let mut response = own(status, &what);
            for line in rules.challenges(route, *refusal) {
                if let Ok(value) = line.parse() {
                    response.headers_mut().append(WWW_AUTHENTICATE, value);
                }
            }
            response
        }
    }
}
