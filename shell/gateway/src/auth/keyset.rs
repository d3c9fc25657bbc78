//! Sets of keys, and tokens verified with them: `jsonwebtoken` reads both, `ring` does the sums.
//!
//! `jsonwebtoken` comes with aws-lc or the crates of RustCrypto; the ring that TLS uses already is given to it instead.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation, decode, decode_header};
use ring::signature::{self as sums, RsaPublicKeyComponents, UnparsedPublicKey};
use ring::{digest, hmac};
use serde_json::Value;
use signature::Verifier;
use skep_gate::auth::keyset::{Alg, Choice, Key, choose};

/// Keys of a set.
const KEYS_MAX: usize = 100;
/// RSA below this has been advised against since 2010 (NIST SP 800-131A); ring takes none either.
const RSA_BITS_MIN: usize = 2_048;
/// As long as what HMAC of SHA-256 gives (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// Keys with which tokens are verified.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    decoding: Vec<DecodingKey>,
    /// Of the text that it was read from.
    pub digest: [u8; 32],
    /// Keys of the text that cannot be used here.
    pub left_out: usize,
}

/// What the head of a token says.
pub struct TokenHead {
    alg: Alg,
    id: Option<String>,
}

/// Reads the head of a token.
///
/// # Errors
/// Why it is none.
pub fn head(token: &str) -> Result<TokenHead, &'static str> {
    let head = decode_header(token).map_err(|_| "it is no token")?;
    // Who does not understand a critical extension must not take the token (RFC 7515, section 4.1.11).
    if head.crit.is_some() {
        return Err("it has critical extensions");
    }
    let alg = alg_of(head.alg).ok_or("its algorithm is not taken")?;
    Ok(TokenHead { alg, id: head.kid })
}

fn alg_of(algorithm: Algorithm) -> Option<Alg> {
    Some(match algorithm {
        Algorithm::RS256 => Alg::Rs256,
        Algorithm::RS384 => Alg::Rs384,
        Algorithm::RS512 => Alg::Rs512,
        Algorithm::PS256 => Alg::Ps256,
        Algorithm::PS384 => Alg::Ps384,
        Algorithm::PS512 => Alg::Ps512,
        Algorithm::ES256 => Alg::Es256,
        Algorithm::ES384 => Alg::Es384,
        Algorithm::EdDSA => Alg::EdDsa,
        Algorithm::HS256 => Alg::Hs256,
        _ => return None,
    })
}

fn algorithm_of(alg: Alg) -> Algorithm {
    match alg {
        Alg::Rs256 => Algorithm::RS256,
        Alg::Rs384 => Algorithm::RS384,
        Alg::Rs512 => Algorithm::RS512,
        Alg::Ps256 => Algorithm::PS256,
        Alg::Ps384 => Algorithm::PS384,
        Alg::Ps512 => Algorithm::PS512,
        Alg::Es256 => Algorithm::ES256,
        Alg::Es384 => Algorithm::ES384,
        Alg::EdDsa => Algorithm::EdDSA,
        Alg::Hs256 => Algorithm::HS256,
    }
}

/// The algorithm that a key is for; none if it cannot be used here.
fn alg_of_key(key: &Jwk) -> Option<Alg> {
    if matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_))) {
        return None;
    }
    let said = match key.common.key_algorithm {
        None => None,
        Some(said) => Some(match said {
            KeyAlgorithm::RS256 => Alg::Rs256,
            KeyAlgorithm::RS384 => Alg::Rs384,
            KeyAlgorithm::RS512 => Alg::Rs512,
            KeyAlgorithm::PS256 => Alg::Ps256,
            KeyAlgorithm::PS384 => Alg::Ps384,
            KeyAlgorithm::PS512 => Alg::Ps512,
            KeyAlgorithm::ES256 => Alg::Es256,
            KeyAlgorithm::ES384 => Alg::Es384,
            KeyAlgorithm::EdDSA => Alg::EdDsa,
            _ => return None,
        }),
    };
    let rsa = [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Ps384, Alg::Ps512];
    let possible: &[Alg] = match &key.algorithm {
        AlgorithmParameters::RSA(_) => &rsa,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Alg::Es256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Alg::Es384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Alg::EdDsa],
        // A secret in a set that is published is none.
        _ => return None,
    };
    match said {
        None => possible.first().copied(),
        Some(said) => possible.contains(&said).then_some(said),
    }
}

fn usable(key: &Value) -> Option<(Key, DecodingKey)> {
    let key: Jwk = serde_json::from_value(key.clone()).ok()?;
    let alg = alg_of_key(&key)?;
    let decoding = DecodingKey::from_jwk(&key).ok()?;
    if let DecodingKeyKind::RsaModulusExponent { n, .. } = decoding.kind()
        && n.iter().skip_while(|b| **b == 0).count() * 8 < RSA_BITS_MIN
    {
        return None;
    }
    Some((Key { id: key.common.key_id, alg }, decoding))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl KeySet {
    /// Reads a JWK set.
    ///
    /// # Errors
    /// Why it is none, or holds nothing that can be used.
    pub fn read(text: &[u8]) -> Result<KeySet, String> {
        let value: Value = serde_json::from_slice(text).map_err(|e| format!("is no JSON: {e}"))?;
        let all = value.get("keys").and_then(Value::as_array).ok_or("has no list `keys`")?;
        if all.len() > KEYS_MAX {
            return Err(format!("has {} keys, the limit is {KEYS_MAX}", all.len()));
        }
        let (keys, decoding): (Vec<_>, Vec<_>) = all.iter().filter_map(usable).unzip();
        if keys.is_empty() {
            return Err(format!("has no key that can be used, of {}", all.len()));
        }
        let left_out = all.len() - keys.len();
        Ok(KeySet { keys, decoding, digest: sha256(text), left_out })
    }

    /// The secret of HS256.
    ///
    /// # Errors
    /// It is too short.
    pub fn of_secret(text: &str) -> Result<KeySet, String> {
        let secret = text.strip_suffix('\n').unwrap_or(text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret).as_bytes();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!("is {} bytes, a secret has at least {SECRET_BYTES_MIN}", secret.len()));
        }
        Ok(KeySet {
            keys: vec![Key { id: None, alg: Alg::Hs256 }],
            decoding: vec![DecodingKey::from_secret(secret)],
            digest: sha256(secret),
            left_out: 0,
        })
    }

    /// The claims of a token whose signature is right; none if the set has no key for it.
    pub fn verify(&self, head: &TokenHead, token: &str) -> Option<Result<Value, &'static str>> {
        // Whoever has the one secret need not name it.
        let is_secret = self.keys.iter().all(|key| key.alg == Alg::Hs256);
        let id = head.id.as_deref().filter(|_| !is_secret);
        let places = match choose(&self.keys, id, head.alg) {
            Choice::Unknown if is_secret => return Some(Err("its algorithm is not that of the key")),
            Choice::Unknown => return None,
            Choice::Wrong => return Some(Err("its algorithm is not that of the key")),
            Choice::Keys(places) => places,
        };
        use_ring();
        let mut rules = Validation::new(algorithm_of(head.alg));
        // Times and names are core's to judge.
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_aud) = (false, false);
        let mut tries = places.iter().map(|at| decode::<Value>(token, &self.decoding[*at], &rules));
        Some(tries.find_map(Result::ok).map(|found| found.claims).ok_or("its signature is wrong"))
    }
}

/// Gives ring to `jsonwebtoken`, once in a process.
fn use_ring() {
    static RING: CryptoProvider = CryptoProvider {
        // Nothing is signed here.
        signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        verifier_factory: |algorithm, key| Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() })),
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    // Another provider would have to be installed by somebody else in this process, and there is nobody.
    ONCE.call_once(|| RING.install_default().expect("nobody else installs a provider"));
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], code: &Vec<u8>) -> Result<(), signature::Error> {
        let wrong = |_| signature::Error::new();
        if let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() {
            let how = match self.algorithm {
                Algorithm::RS256 => &sums::RSA_PKCS1_2048_8192_SHA256,
                Algorithm::RS384 => &sums::RSA_PKCS1_2048_8192_SHA384,
                Algorithm::RS512 => &sums::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::PS256 => &sums::RSA_PSS_2048_8192_SHA256,
                Algorithm::PS384 => &sums::RSA_PSS_2048_8192_SHA384,
                Algorithm::PS512 => &sums::RSA_PSS_2048_8192_SHA512,
                _ => return Err(signature::Error::new()),
            };
            return RsaPublicKeyComponents { n, e }.verify(how, message, code).map_err(wrong);
        }
        let bytes = self.key.try_get_as_bytes().map_err(|_| signature::Error::new())?;
        let how: &dyn sums::VerificationAlgorithm = match (self.algorithm, self.key.family()) {
            (Algorithm::HS256, jsonwebtoken::AlgorithmFamily::Hmac) => {
                return hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, bytes), message, code).map_err(wrong);
            }
            (Algorithm::ES256, jsonwebtoken::AlgorithmFamily::Ec) => &sums::ECDSA_P256_SHA256_FIXED,
            (Algorithm::ES384, jsonwebtoken::AlgorithmFamily::Ec) => &sums::ECDSA_P384_SHA384_FIXED,
            (Algorithm::EdDSA, jsonwebtoken::AlgorithmFamily::Ed) => &sums::ED25519,
            _ => return Err(signature::Error::new()),
        };
        UnparsedPublicKey::new(how, bytes).verify(message, code).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// Base 64 for URLs without padding, written again so that both are known to mean the same.
    fn b64(bytes: &[u8]) -> String {
        let mut out = String::new();
        for three in bytes.chunks(3) {
            let bits =
                three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            let digits = (0..=three.len()).map(|at| (bits >> (18 - 6 * at)) as usize % 64);
            out.extend(digits.map(|at| char::from(DIGITS[at])));
        }
        out
    }

    fn token(head: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", b64(head.to_string().as_bytes()), b64(br#"{"sub":"u"}"#));
        format!("{message}.{}", b64(&sign(message.as_bytes())))
    }

    fn verify(set: &KeySet, token: &str) -> Option<Result<Value, &'static str>> {
        set.verify(&head(token).unwrap_or_else(|why| panic!("{why}: {token}")), token)
    }

    #[test]
    fn only_the_keys_own_algorithm_and_signature_are_right() {
        let rng = SystemRandom::new();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &rng).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &rng).unwrap();
        let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&rng).unwrap().as_ref()).unwrap();
        let (point, ed_point) = (ec.public_key().as_ref(), ed.public_key().as_ref());
        let text = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ec", "x": b64(&point[1..33]), "y": b64(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": b64(ed_point) },
            { "kty": "EC", "crv": "P-256", "kid": "enc", "use": "enc", "x": b64(&point[1..33]), "y": b64(&point[33..]) },
            { "kty": "oct", "kid": "secret", "k": b64(&[7; 32]) },
            { "kty": "RSA", "kid": "short", "n": b64(&[200; 128]), "e": "AQAB" },
            { "kty": "new", "kid": "new" },
            3,
        ] });
        let set = KeySet::read(text.to_string().as_bytes()).unwrap();
        assert_eq!((set.keys.len(), set.left_out), (2, 5));
        let by_ec = |m: &[u8]| ec.sign(&rng, m).unwrap().as_ref().to_vec();
        let by_ed = |m: &[u8]| ed.sign(m).as_ref().to_vec();
        let (es, eds) = (json!({ "alg": "ES256", "kid": "ec" }), json!({ "alg": "EdDSA", "kid": "ed" }));
        let good = Some(Ok(json!({ "sub": "u" })));
        assert_eq!(verify(&set, &token(&es, by_ec)), good);
        assert_eq!(verify(&set, &token(&eds, by_ed)), good);
        assert_eq!(
            verify(&set, &token(&json!({ "alg": "ES256" }), by_ec)),
            good,
            "no name, one key that fits"
        );
        let wrong = Some(Err("its signature is wrong"));
        assert_eq!(verify(&set, &token(&es, |m| by_ec(&m[1..]))), wrong);
        assert_eq!(verify(&set, &token(&eds, by_ec)), wrong);
        assert_eq!(verify(&set, &token(&eds, |_| Vec::new())), wrong);
        let other_claims = token(&es, by_ec).replace(&b64(br#"{"sub":"u"}"#), &b64(br#"{"sub":"v"}"#));
        assert_eq!(verify(&set, &other_claims), wrong);
        // A public key as a secret (RFC 8725, section 2.1).
        let secret = hmac::Key::new(hmac::HMAC_SHA256, point);
        let confused = json!({ "alg": "HS256", "kid": "ec" });
        let not_the_keys = Some(Err("its algorithm is not that of the key"));
        assert_eq!(
            verify(&set, &token(&confused, |m| hmac::sign(&secret, m).as_ref().to_vec())),
            not_the_keys
        );
        assert_eq!(
            verify(&set, &token(&json!({ "alg": "ES256", "kid": "x" }), by_ec)),
            None,
            "it may be a new one"
        );
        for (text, why) in [
            (token(&json!({ "alg": "none" }), |_| Vec::new()), "it is no token"),
            (token(&json!({ "alg": "ES256", "crit": ["b64"] }), by_ec), "it has critical extensions"),
            (token(&json!({ "alg": "HS512" }), by_ec), "its algorithm is not taken"),
            (token(&json!({ "kid": "ec" }), by_ec), "it is no token"),
            ("a.b".to_owned(), "it is no token"),
            ("a.b.c.d".to_owned(), "it is no token"),
            (String::new(), "it is no token"),
        ] {
            assert_eq!(head(&text).err(), Some(why), "{text}");
        }
        // A key that the token brings along is not asked.
        let own = json!({ "alg": "EdDSA", "kid": "ec2", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": b64(ed_point) } });
        assert_eq!(verify(&set, &token(&own, by_ed)), None);
    }

    #[test]
    fn a_secret_is_long_and_for_its_one_algorithm() {
        assert!(KeySet::of_secret("short\n").unwrap_err().starts_with("is 5 bytes"));
        let text = "0123456789abcdef0123456789abcdef";
        let set = KeySet::of_secret(&format!("{text}\r\n")).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
        let by = |m: &[u8]| hmac::sign(&key, m).as_ref().to_vec();
        let good = Some(Ok(json!({ "sub": "u" })));
        assert_eq!(verify(&set, &token(&json!({ "alg": "HS256" }), by)), good);
        assert_eq!(verify(&set, &token(&json!({ "alg": "HS256", "kid": "any" }), by)), good);
        let wrong = Some(Err("its algorithm is not that of the key"));
        assert_eq!(verify(&set, &token(&json!({ "alg": "RS256" }), by)), wrong);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for (text, why) in [
            ("", "is no JSON"),
            ("[]", "has no list `keys`"),
            (r#"{"keys":[]}"#, "has no key that can be used, of 0"),
            (
                r#"{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}]}"#,
                "has no key that can be used, of 1",
            ),
        ] {
            let told = KeySet::read(text.as_bytes()).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
        let many: Vec<Value> = (0..101).map(|n| json!({ "kid": n })).collect();
        let told = KeySet::read(json!({ "keys": many }).to_string().as_bytes()).unwrap_err();
        assert_eq!(told, "has 101 keys, the limit is 100");
    }
}
