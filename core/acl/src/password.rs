//! Passwords as their hashes.

use std::fmt;

use sha2::{Digest, Sha256};

/// The SHA-256 of a password, which Redis shows as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    pub fn of(password: &[u8]) -> PasswordHash {
        PasswordHash(Sha256::digest(password).into())
    }

    /// Reads 64 digits, lower case only, as Redis takes them.
    pub fn parse(digits: &[u8]) -> Option<PasswordHash> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(PasswordHash(hash))
    }

    /// Compares in time that does not depend on where the hashes differ.
    pub fn is_same(&self, other: &PasswordHash) -> bool {
        let differ = self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b));
        std::hint::black_box(differ) == 0
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_and_read_as_redis_does() {
        let hash = PasswordHash::of(b"p");
        let digits = "148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940";
        assert_eq!(hash.to_string(), digits);
        assert!(PasswordHash::parse(digits.as_bytes()).is_some_and(|read| read.is_same(&hash)));
        assert_eq!(PasswordHash::parse(digits.to_uppercase().as_bytes()), None);
        assert_eq!(PasswordHash::parse(&digits.as_bytes()[1..]), None);
        assert!(!hash.is_same(&PasswordHash::of(b"q")));
    }
}
