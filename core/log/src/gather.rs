//! Reads live entries back from an old segment.

use std::collections::BTreeMap;

use skep_base::varint::Reader;
use skep_base::{GroupId, LogIndex};

use crate::block::{self, BLOCK_BYTES, Found, Seal};
use crate::codec::{self, Logged};
use crate::disk::Disk;
use crate::fault::LogFault;
use crate::record::Entry;
use crate::recovery::BLOCKS_PER_READ;
use crate::segment::Segment;

/// Collects the newest copy of each entry that `wanted` asks for from one old segment, so that it can be written again.
///
/// # Errors
/// As [`recover`]; a batch that is not whole is damage, since the segment was completed long ago.
pub(crate) fn gather(
    disk: &mut impl Disk,
    seal: Seal,
    segment: Segment,
    wanted: &[(GroupId, LogIndex, LogIndex)],
) -> Result<BTreeMap<GroupId, Vec<Entry>>, LogFault> {
    let mut found: BTreeMap<GroupId, BTreeMap<LogIndex, Entry>> = BTreeMap::new();
    let mut buffer = vec![0; BLOCK_BYTES * segment.blocks.min(BLOCKS_PER_READ) as usize];
    let mut payload = Vec::new();
    let file = segment.file();
    let mut at = 0;
    'segment: while at < segment.blocks {
        let now = (segment.blocks - at).min(BLOCKS_PER_READ);
        let bytes = &mut buffer[..now as usize * BLOCK_BYTES];
        disk.read_at(&file, u64::from(at) * BLOCK_BYTES as u64, bytes)?;
        for (position, block) in (at..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let offset = u64::from(position) * BLOCK_BYTES as u64;
            let header = match seal.inspect(position, block) {
                Found::Block(header) if header.segment == segment.number => header,
                Found::Block(_) | Found::Zero => break 'segment,
                Found::Bad | Found::Newer(_) => {
                    return Err(LogFault::damaged(
                        &file,
                        offset,
                        "a block is not as written (checksum mismatch)",
                    ));
                }
            };
            if header.index == 0 {
                payload.clear();
            }
            payload.extend_from_slice(block::payload(block, header.used));
            if header.index + 1 < header.count {
                continue;
            }
            let mut reader = Reader::new(&payload);
            while reader.left() > 0 {
                let logged = codec::decode(&mut reader)
                    .map_err(|m| LogFault::damaged(&file, offset, format!("a batch does not parse: {m}")))?;
                let (Logged::Append { group, entries } | Logged::Rewrite { group, entries }) = logged else {
                    continue;
                };
                let is_wanted = |index: LogIndex| {
                    wanted.iter().any(|(g, first, last)| *g == group && (*first..=*last).contains(&index))
                };
                found
                    .entry(group)
                    .or_default()
                    .extend(entries.into_iter().filter(|e| is_wanted(e.id.index)).map(|e| (e.id.index, e)));
            }
        }
        at += now;
    }
    Ok(found.into_iter().map(|(g, entries)| (g, entries.into_values().collect())).collect())
}
