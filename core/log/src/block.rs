//! The block: 512 bytes, the unit that a disk writes wholly or not at all, each with its own checksum.
//!
//! ```text
//!  0  crc32c   u32   over salt, position in the segment, and bytes 4..512
//!  4  used     u16   payload bytes in use; the rest is zero
//!  6  version  u16
//!  8  segment  u64   number of the segment, so that a recycled file's older blocks are told apart
//! 16  batch    u64   number of the batch
//! 24  index    u32   of the block in its batch
//! 28  count    u32   of blocks in the batch
//! 32  payload  480 bytes
//! ```
//!
//! All integers are little-endian. Invariant: a batch starts at a block of its own, so a durable block is never written
//! again (INV-LOG-1).

/// Size of a block. The atomic write of every disk we know is this or a multiple of it.
pub const BLOCK_BYTES: usize = 512;
const HEADER_BYTES: usize = 32;
/// Payload bytes of a block.
pub const PAYLOAD_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;
/// Format of blocks and of the records within.
pub const FORMAT_VERSION: u16 = 1;

/// What the block says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockHeader {
    pub segment: u64,
    pub batch: u64,
    pub index: u32,
    pub count: u32,
    pub used: usize,
}

/// What lies in 512 bytes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Zero,
    Block(BlockHeader),
    /// Checksum right, version unknown.
    Newer(u16),
    Bad,
}

/// Checksum start for one log; `salt` is its identity, so blocks of another node's log never pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal(u32);

impl Seal {
    pub fn new(salt: u64) -> Seal {
        Seal(crc32c::crc32c(&salt.to_le_bytes()))
    }

    fn checksum(self, position: u32, block: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &position.to_le_bytes()), &block[4..])
    }

    pub fn inspect(self, position: u32, block: &[u8]) -> Found {
        assert_eq!(block.len(), BLOCK_BYTES, "block of a wrong size");
        if *block == [0; BLOCK_BYTES] {
            return Found::Zero;
        }
        let u16_at = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(0) != self.checksum(position, block) {
            return Found::Bad;
        }
        if u16_at(6) != FORMAT_VERSION {
            return Found::Newer(u16_at(6));
        }
        let header = BlockHeader {
            used: usize::from(u16_at(4)),
            segment: u64_at(8),
            batch: u64_at(16),
            index: u32_at(24),
            count: u32_at(28),
        };
        let full = header.index < header.count.saturating_sub(1);
        let sound = header.index < header.count
            && (if full { header.used == PAYLOAD_BYTES } else { (1..=PAYLOAD_BYTES).contains(&header.used) });
        if sound { Found::Block(header) } else { Found::Bad }
    }
}

/// The payload of a block that [`Seal::inspect`] found sound.
pub(crate) fn payload(block: &[u8], used: usize) -> &[u8] {
    &block[HEADER_BYTES..HEADER_BYTES + used]
}

/// Blocks that `payload_bytes` take.
pub(crate) fn blocks_for(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(PAYLOAD_BYTES)
}

/// One batch under construction: payload goes straight to its place between the block headers. Reused from batch to
/// batch, so that a steady log allocates nothing.
#[derive(Default, Debug)]
pub(crate) struct BatchBuffer {
    bytes: Vec<u8>,
}

/// Memory kept between batches; what one huge batch took is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

impl BatchBuffer {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
    }

    #[inline]
    pub fn put(&mut self, mut payload: &[u8]) {
        while !payload.is_empty() {
            let at = self.bytes.len() % BLOCK_BYTES;
            if at == 0 {
                self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
                continue;
            }
            let (now, later) = payload.split_at(payload.len().min(BLOCK_BYTES - at));
            self.bytes.extend_from_slice(now);
            payload = later;
        }
    }

    /// Fills in padding, headers and checksums; the batch lies at block `position` of `segment`.
    pub fn finish(&mut self, seal: Seal, segment: u64, batch: u64, position: u32) -> &[u8] {
        assert!(!self.bytes.is_empty(), "batch {batch} is empty");
        let tail = (self.bytes.len() - 1) % BLOCK_BYTES + 1;
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let count =
            u32::try_from(self.bytes.len() / BLOCK_BYTES).expect("a batch fits a segment of u32 blocks");
        for (index, block) in (0u32..).zip(self.bytes.chunks_exact_mut(BLOCK_BYTES)) {
            let used = if index + 1 == count { tail - HEADER_BYTES } else { PAYLOAD_BYTES };
            block[4..6].copy_from_slice(&(used as u16).to_le_bytes());
            block[6..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
            block[8..16].copy_from_slice(&segment.to_le_bytes());
            block[16..24].copy_from_slice(&batch.to_le_bytes());
            block[24..28].copy_from_slice(&index.to_le_bytes());
            block[28..32].copy_from_slice(&count.to_le_bytes());
            let crc = seal.checksum(position + index, block);
            block[..4].copy_from_slice(&crc.to_le_bytes());
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_every_length_near_a_block_round_trip() {
        let seal = Seal::new(7);
        let mut buffer = BatchBuffer::default();
        for len in (1..4).chain(478..483).chain(958..963) {
            let text: Vec<u8> = (0..len).map(|i| i as u8 | 1).collect();
            buffer.clear();
            text.chunks(7).for_each(|part| buffer.put(part));
            let bytes = buffer.finish(seal, 3, 9, 5).to_vec();
            assert_eq!(bytes.len(), blocks_for(len) * BLOCK_BYTES);
            let mut back = Vec::new();
            for (i, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
                let Found::Block(header) = seal.inspect(5 + i as u32, block) else {
                    panic!("block {i} of {len}")
                };
                assert_eq!((header.segment, header.batch, header.index), (3, 9, i as u32));
                back.extend_from_slice(payload(block, header.used));
                assert_eq!(seal.inspect(6 + i as u32, block), Found::Bad, "a misdirected block passed");
                assert_eq!(Seal::new(8).inspect(5 + i as u32, block), Found::Bad, "a foreign block passed");
            }
            assert_eq!(back, text);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_block_is_seen() {
        let seal = Seal::new(1);
        let mut buffer = BatchBuffer::default();
        buffer.put(b"x");
        let good = buffer.finish(seal, 1, 1, 0).to_vec();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.inspect(0, &bad), Found::Bad, "bit {bit}");
        }
    }
}
