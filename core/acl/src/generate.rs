//! Passwords drawn for `ACL GENPASS`.

use sha2::{Digest, Sha256};

/// The longest password that can be asked for, in bits, as in Redis.
pub const GENERATED_BITS_MAX: u64 = 4096;

/// Draws passwords from a secret that the surroundings gave once.
///
/// Each block is the hash of the secret with a mark; then the secret is replaced by its hash with another mark, so that who
/// reads the memory later learns nothing of passwords drawn before.
#[derive(Clone)]
pub struct Generator {
    secret: [u8; 32],
}

impl Generator {
    /// `secret` must come from a generator for secrets. Several generators of one secret differ by their numbers.
    pub fn new(secret: [u8; 32], number: u64) -> Generator {
        Generator {
            secret: Sha256::new().chain_update(secret).chain_update(number.to_le_bytes()).finalize().into(),
        }
    }

    /// Hexadecimal digits with at least `bits` bits of chance: a digit for every four, the last one rounded up.
    pub fn hex(&mut self, bits: u64) -> String {
        let digits = bits.div_ceil(4) as usize;
        let mut text = String::new();
        while text.len() < digits {
            self.bytes().iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        text.truncate(digits);
        text
    }

    /// 256 bits of chance.
    pub fn bytes(&mut self) -> [u8; 32] {
        let step = |mark: u8| -> [u8; 32] {
            Sha256::new().chain_update(self.secret).chain_update([mark]).finalize().into()
        };
        let (block, next) = (step(0), step(1));
        self.secret = next;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_have_the_length_asked_for_and_never_repeat() {
        let mut one = Generator::new([7; 32], 0);
        let mut other = Generator::new([7; 32], 1);
        let drawn = [one.hex(256), one.hex(256), other.hex(256)];
        assert!(drawn.iter().all(|text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(drawn[0] != drawn[1] && drawn[0] != drawn[2] && drawn[1] != drawn[2]);
        assert_eq!((one.hex(5).len(), one.hex(1).len(), one.hex(GENERATED_BITS_MAX).len()), (2, 1, 1024));
    }
}
