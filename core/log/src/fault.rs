//! What can be wrong with the log or a checkpoint, in words for the person who has to act on it.

use std::fmt;

use crate::disk::DiskError;

/// Why the log or a checkpoint cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogFault {
    /// Bytes on disk are not what was written, and a power cut does not explain it. Nothing was changed.
    Damaged {
        file: String,
        /// Bytes from the start of the file to the first thing that is wrong.
        offset: u64,
        found: String,
    },
    /// Written by a release that knows more than this one. Nothing was changed.
    Newer { file: String, version: u64, version_max: u64 },
    /// No space for a new segment or checkpoint. The log is as before the call; the call may be repeated.
    Full { file: String },
    /// A disk operation failed. What is durable is unknown, so the process must stop and recover from the disk.
    Failed(DiskError),
    /// An earlier call returned [`LogFault::Failed`].
    Stopped,
}

impl LogFault {
    pub(crate) fn damaged(file: &str, offset: u64, found: impl Into<String>) -> LogFault {
        LogFault::Damaged { file: file.to_owned(), offset, found: found.into() }
    }

    /// The same with the file's name as `name` gives it; the log knows names only, people want paths.
    pub fn located(self, name: impl FnOnce(&str) -> String) -> LogFault {
        match self {
            LogFault::Damaged { file, offset, found } => {
                LogFault::Damaged { file: name(&file), offset, found }
            }
            LogFault::Newer { file, version, version_max } => {
                LogFault::Newer { file: name(&file), version, version_max }
            }
            other => other,
        }
    }

    /// True if the call may be repeated once there is space.
    pub fn is_full(&self) -> bool {
        matches!(self, LogFault::Full { .. })
    }
}

impl From<DiskError> for LogFault {
    fn from(error: DiskError) -> LogFault {
        match error {
            DiskError::Full { file } => LogFault::Full { file },
            other => LogFault::Failed(other),
        }
    }
}

impl fmt::Display for LogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogFault::Damaged { file, offset, found } => write!(
                f,
                "{file} is damaged at offset {offset}: {found}; this node will not guess: if the cluster has other \
                 copies, move this data directory away and start the node empty, so that it is rebuilt from its peers; \
                 otherwise restore the directory from a backup"
            ),
            LogFault::Newer { file, version, version_max } => write!(
                f,
                "{file} has format {version}, this release reads up to {version_max}; start the release that wrote it, or \
                 a later one"
            ),
            LogFault::Full { file } => {
                write!(f, "no space left on the disk for {file}; free some")
            }
            LogFault::Failed(error) => {
                write!(f, "{error}; the process must stop, since what is durable is unknown")
            }
            LogFault::Stopped => write!(f, "the log stopped at an earlier disk failure"),
        }
    }
}

impl std::error::Error for LogFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogFault::Failed(error) => Some(error),
            _ => None,
        }
    }
}
