//! Work on files that may run beside the log, on another thread with another handle of the same disk: it touches no file
//! that the log touches.

use std::collections::BTreeMap;

use skep_base::{GroupId, LogIndex};

use crate::block::{BLOCK_BYTES, Seal};
use crate::disk::{Disk, DiskError};
use crate::fault::LogFault;
use crate::gather;
use crate::record::Entry;
use crate::segment::{SPARE, Segment};

/// One piece of work. Made by [`crate::Wal::next_chore`].
#[derive(Debug)]
pub struct Chore(Kind);

#[derive(Debug)]
enum Kind {
    /// Zero-fill a spare file.
    Create {
        blocks: u32,
    },
    /// Make the spare file of a segment that died.
    Recycle {
        dead: Segment,
    },
    Remove {
        dead: Segment,
    },
    /// Read entries back from an old segment.
    Gather {
        seal: Seal,
        segment: Segment,
        wanted: Vec<(GroupId, LogIndex, LogIndex)>,
    },
}

/// What a chore did, for [`crate::Wal::on_chore`].
#[derive(Debug)]
pub struct ChoreDone(pub(crate) Done);

#[derive(Debug)]
pub(crate) enum Done {
    /// The spare file is there, allocated and durable; `dead` is what it was made of.
    Spare {
        blocks: u32,
        dead: Option<Segment>,
    },
    Removed {
        dead: Segment,
    },
    Gathered {
        entries: BTreeMap<GroupId, Vec<Entry>>,
    },
}

impl Chore {
    pub(crate) fn create(blocks: u32) -> Chore {
        Chore(Kind::Create { blocks })
    }

    pub(crate) fn recycle(dead: Segment) -> Chore {
        Chore(Kind::Recycle { dead })
    }

    pub(crate) fn remove(dead: Segment) -> Chore {
        Chore(Kind::Remove { dead })
    }

    pub(crate) fn gather(seal: Seal, segment: Segment, wanted: Vec<(GroupId, LogIndex, LogIndex)>) -> Chore {
        Chore(Kind::Gather { seal, segment, wanted })
    }

    /// Does the work.
    ///
    /// # Errors
    /// To be handed to [`crate::Wal::on_chore`] as they are.
    ///
    /// Cost: up to the zero-filling or reading of a whole segment.
    pub fn run(self, disk: &mut impl Disk) -> Result<ChoreDone, LogFault> {
        Ok(ChoreDone(match self.0 {
            Kind::Create { blocks } => {
                if let Err(error) = disk.create(SPARE, u64::from(blocks) * BLOCK_BYTES as u64) {
                    if matches!(error, DiskError::Full { .. }) {
                        // Gives back what there is of it; if that fails too, the next start does it.
                        let _ = disk.remove(SPARE);
                    }
                    return Err(error.into());
                }
                Done::Spare { blocks, dead: None }
            }
            Kind::Recycle { dead } => {
                disk.rename(&dead.file(), SPARE)?;
                disk.sync_dir()?;
                Done::Spare { blocks: dead.blocks, dead: Some(dead) }
            }
            Kind::Remove { dead } => {
                disk.remove(&dead.file())?;
                disk.sync_dir()?;
                Done::Removed { dead }
            }
            Kind::Gather { seal, segment, wanted } => {
                Done::Gathered { entries: gather::gather(disk, seal, segment, &wanted)? }
            }
        }))
    }
}
