//! The names of scripts: SHA-1 of their source.

use std::fmt;

use sha1::{Digest, Sha1};

/// SHA-1 of a script's source, by which `EVALSHA` calls it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha(pub [u8; 20]);

impl Sha {
    pub fn of(source: &[u8]) -> Sha {
        Sha(Sha1::digest(source).into())
    }

    /// Reads 40 hexadecimal digits of either case.
    pub fn parse(text: &[u8]) -> Option<Sha> {
        if text.len() != 40 {
            return None;
        }
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Sha(bytes))
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_in_either_case() {
        let sha = Sha::of(b"return 1");
        assert_eq!(sha.to_string(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(Sha::parse(sha.to_string().as_bytes()), Some(sha));
        assert_eq!(Sha::parse(sha.to_string().to_uppercase().as_bytes()), Some(sha));
        assert_eq!(Sha::parse(b"e0e1f9"), None);
        assert_eq!(Sha::parse(&[b'g'; 40]), None);
    }
}
