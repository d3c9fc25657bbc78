//! Hash slots as Redis Cluster clients expect them: CRC16 of the key or of its hash tag, modulo 16,384.

/// Number of hash slots.
pub const SLOT_COUNT: u16 = 16_384;

/// What a byte adds to the checksum with 0, 1, 2 and 3 bytes behind it, so that four bytes are taken at once ("slicing",
/// Kounavis and Berry 2005): each byte alone would wait for the one before it.
const TABLES: [[u16; 256]; 4] = {
    let mut tables = [byte_table(); 4];
    let mut behind = 1;
    while behind < 4 {
        let mut i = 0;
        while i < 256 {
            let crc = tables[behind - 1][i];
            tables[behind][i] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            i += 1;
        }
        behind += 1;
    }
    tables
};

const fn byte_table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// CRC-16/XMODEM, the polynomial that the Redis Cluster specification names.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    static T: [[u16; 256]; 4] = TABLES;
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let crc = words.fold(0u16, |crc, w| {
        let [high, low] = crc.to_be_bytes();
        T[3][usize::from(high ^ w[0])]
            ^ T[2][usize::from(low ^ w[1])]
            ^ T[1][usize::from(w[2])]
            ^ T[0][usize::from(w[3])]
    });
    rest.iter().fold(crc, |crc, b| (crc << 8) ^ T[0][usize::from((crc >> 8) as u8 ^ b)])
}

/// The slot of `key`: of the text between the first `{` and the next `}` if there is any, else of the whole key.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOT_COUNT
}

#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    // Most keys have none, and `contains` looks at several bytes at once.
    if !key.contains(&b'{') {
        return key;
    }
    let Some(open) = key.iter().position(|b| *b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|b| *b == b'}') {
        Some(close) if close > 0 => &rest[..close],
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_agrees_with_its_definition_at_every_length() {
        let by_bit = |bytes: &[u8]| {
            bytes.iter().fold(0u16, |crc, b| {
                (0..8).fold(
                    crc ^ u16::from(*b) << 8,
                    |c, _| if c >> 15 == 1 { c << 1 ^ 0x1021 } else { c << 1 },
                )
            })
        };
        let bytes: Vec<u8> = (0..=255u8).map(|i| i.wrapping_mul(151)).collect();
        for start in 0..64 {
            for end in start..start + 24 {
                assert_eq!(crc16(&bytes[start..end]), by_bit(&bytes[start..end]), "bytes {start} to {end}");
            }
        }
    }

    #[test]
    fn slots_agree_with_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOT_COUNT);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
    }
}
