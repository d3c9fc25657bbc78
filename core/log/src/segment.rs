//! Segment files: their names, how one comes to be, and the file that gives the log its identity.

use crate::block::BLOCK_BYTES;
use crate::disk::{Disk, DiskError};
use crate::fault::LogFault;

/// One file of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// From 1, consecutive, never given twice to a file with batches.
    pub number: u64,
    pub blocks: u32,
}

impl Segment {
    pub fn file(self) -> String {
        file_name(self.number)
    }
}

const PREFIX: &str = "log-";
/// Ending of files under construction. They hold nothing yet and are removed at a start.
const UNFINISHED: &str = ".tmp";

pub(crate) fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The number in a segment's name.
fn number_of(file: &str) -> Option<u64> {
    let digits = file.strip_prefix(PREFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (file_name(number) == file && number > 0).then_some(number)
}

/// A file in the making by a chore.
pub(crate) const SPARE: &str = "log-spare.tmp";
/// A file in the making by the log itself, which may be at it beside a chore.
const URGENT: &str = "log-urgent.tmp";

/// Zero-fills a file and gives it the segment's name, in an order that a crash cannot spoil.
pub(crate) fn create(disk: &mut impl Disk, segment: Segment) -> Result<(), DiskError> {
    if let Err(error) = disk.create(URGENT, u64::from(segment.blocks) * BLOCK_BYTES as u64) {
        if matches!(error, DiskError::Full { .. }) {
            // Gives back what there is of it; if that fails too, the next start does it.
            let _ = disk.remove(URGENT);
        }
        return Err(error);
    }
    adopt(disk, URGENT, segment)
}

/// Gives a finished file its name as a segment. Its bytes are zero, or blocks of an older life.
pub(crate) fn adopt(disk: &mut impl Disk, file: &str, segment: Segment) -> Result<(), DiskError> {
    disk.rename(file, &segment.file())?;
    disk.sync_dir()
}

/// The segments in the directory, oldest first, without gaps. Removes what was under construction.
pub(crate) fn list(disk: &mut impl Disk) -> Result<Vec<Segment>, LogFault> {
    let mut segments: Vec<Segment> = Vec::new();
    for file in disk.list()? {
        if file.starts_with(PREFIX) && file.ends_with(UNFINISHED) {
            disk.remove(&file)?;
        }
        let Some(number) = number_of(&file) else { continue };
        let len = disk.len(&file)?;
        if len == 0 || len % BLOCK_BYTES as u64 != 0 {
            return Err(LogFault::damaged(
                &file,
                len,
                format!("the file ends after {len} bytes, within a block"),
            ));
        }
        let Ok(blocks) = u32::try_from(len / BLOCK_BYTES as u64) else {
            return Err(LogFault::damaged(&file, len, "the file is longer than any segment"));
        };
        if let Some(before) = segments.last().filter(|s| s.number + 1 != number) {
            let missing = file_name(before.number + 1);
            return Err(LogFault::damaged(&missing, 0, format!("the segment is missing, {file} is there")));
        }
        segments.push(Segment { number, blocks });
    }
    Ok(segments)
}

/// Holds the salt; written once, after the first segment, so it also says that the log has begun.
const IDENTITY: &str = "log-identity";
const IDENTITY_UNFINISHED: &str = "log-identity.tmp";
const IDENTITY_MAGIC: &[u8; 8] = b"skep-log";
const IDENTITY_VERSION: u32 = 1;
const IDENTITY_BYTES: usize = 24;

/// The log's salt, or `None` if it was never made.
///
/// Layout: magic 8, version u32, salt u64, crc32c u32 of the bytes before.
pub(crate) fn read_identity(disk: &mut impl Disk) -> Result<Option<u64>, LogFault> {
    let len = match disk.len(IDENTITY) {
        Ok(len) => len,
        Err(DiskError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if len != IDENTITY_BYTES as u64 {
        return Err(LogFault::damaged(IDENTITY, len, format!("{len} bytes instead of {IDENTITY_BYTES}")));
    }
    let mut bytes = [0; IDENTITY_BYTES];
    disk.read_at(IDENTITY, 0, &mut bytes)?;
    let (body, crc) = bytes.split_at(IDENTITY_BYTES - 4);
    if &body[..8] != IDENTITY_MAGIC || crc != crc32c::crc32c(body).to_le_bytes() {
        return Err(LogFault::damaged(IDENTITY, 0, "it is not as written (checksum mismatch)"));
    }
    let version = u32::from_le_bytes([body[8], body[9], body[10], body[11]]);
    if version != IDENTITY_VERSION {
        return Err(LogFault::Newer {
            file: IDENTITY.to_owned(),
            version: u64::from(version),
            version_max: u64::from(IDENTITY_VERSION),
        });
    }
    let mut salt = [0; 8];
    salt.copy_from_slice(&body[12..20]);
    Ok(Some(u64::from_le_bytes(salt)))
}

pub(crate) fn write_identity(disk: &mut impl Disk, salt: u64) -> Result<(), LogFault> {
    let mut bytes = IDENTITY_MAGIC.to_vec();
    bytes.extend_from_slice(&IDENTITY_VERSION.to_le_bytes());
    bytes.extend_from_slice(&salt.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    disk.create(IDENTITY_UNFINISHED, IDENTITY_BYTES as u64)?;
    disk.write_at(IDENTITY_UNFINISHED, 0, &bytes)?;
    disk.sync(IDENTITY_UNFINISHED)?;
    disk.rename(IDENTITY_UNFINISHED, IDENTITY)?;
    disk.sync_dir()?;
    Ok(())
}

/// Removes segments of a log whose first start did not come to its end. They hold no batch, since the identity comes
/// before the first batch.
pub(crate) fn remove_stillborn(disk: &mut impl Disk, segments: &[Segment]) -> Result<(), LogFault> {
    for segment in segments {
        let mut block = [0; BLOCK_BYTES];
        disk.read_at(&segment.file(), 0, &mut block)?;
        if block.iter().any(|b| *b != 0) {
            return Err(LogFault::damaged(
                IDENTITY,
                0,
                format!("it is missing, but {} is in use", segment.file()),
            ));
        }
    }
    for segment in segments.iter().rev() {
        disk.remove(&segment.file())?;
    }
    disk.sync_dir()?;
    Ok(())
}
