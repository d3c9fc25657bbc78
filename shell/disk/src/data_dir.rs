//! The data directory: one process at a time, one format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::{error, fmt};

use rustix::fs::FlockOperation;

use crate::FileDisk;

/// Format of the directory as a whole: which files there are and what they mean together.
pub const FORMAT_VERSION: u64 = 2;

const LOCK: &str = "skep-lock";
const FORMAT: &str = "skep-format";
const FORMAT_UNFINISHED: &str = "skep-format.tmp";
/// Of directories with what was here when the disk was found damaged.
const ASIDE_PREFIX: &str = "damaged-";
const FORMAT_HEAD: &str = "skep data directory, format ";

/// A data directory held by this process until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    is_new: bool,
    /// Holds the lock. The kernel frees it with the process, however that ends.
    _lock: File,
}

/// Why a data directory cannot be used. Nothing in it was changed, but that it may have been created.
#[derive(Debug)]
pub enum DataDirFault {
    /// Another process has it.
    Taken {
        path: PathBuf,
        pid: Option<u32>,
    },
    /// Written before the cluster's state had its present form. No release did that.
    Older {
        path: PathBuf,
        version: u64,
    },
    /// A later release wrote it.
    Newer {
        path: PathBuf,
        version: u64,
    },
    /// It holds files, but not skep's.
    Foreign {
        path: PathBuf,
        file: String,
    },
    /// The format file is not as written.
    Damaged {
        path: PathBuf,
        found: String,
    },
    Io {
        path: PathBuf,
        operation: &'static str,
        source: io::Error,
    },
}

impl fmt::Display for DataDirFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirFault::Taken { path, pid } => {
                write!(f, "data directory {} is in use by another skep process", path.display())?;
                if let Some(pid) = pid {
                    write!(f, ", pid {pid}")?;
                }
                write!(f, "; stop that one, or give this one its own --data-dir")
            }
            DataDirFault::Newer { path, version } => write!(
                f,
                "{} says format {version}, this release reads up to {FORMAT_VERSION}; start the release that wrote it, or a \
                 later one",
                path.display()
            ),
            DataDirFault::Older { path, version } => write!(
                f,
                "{} says format {version}, this release reads {FORMAT_VERSION}: it was written before the first release; \
                 give an empty or a new --data-dir, and copy the data with a client",
                path.display()
            ),
            DataDirFault::Foreign { path, file } => write!(
                f,
                "data directory {} holds {file}, but no {FORMAT}: it is not skep's; give an empty or a new --data-dir",
                path.display()
            ),
            DataDirFault::Damaged { path, found } => write!(
                f,
                "{} is damaged at offset 0: {found}; restore it from a backup, or move the data directory away and let \
                 the node be rebuilt from its peers",
                path.display()
            ),
            DataDirFault::Io { path, operation, source } => {
                let cure = match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some",
                    _ => "--data-dir must be a directory that this user may write to",
                };
                write!(f, "{operation} of {} failed: {source}; {cure}", path.display())
            }
        }
    }
}

impl error::Error for DataDirFault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            DataDirFault::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl DataDir {
    /// Creates the directory if there is none, takes its lock and checks its format.
    ///
    /// # Errors
    /// See [`DataDirFault`].
    pub fn open(path: impl Into<PathBuf>) -> Result<DataDir, DataDirFault> {
        let path = path.into();
        let io = |path: &Path, operation| {
            let path = path.to_owned();
            move |source| DataDirFault::Io { path, operation, source }
        };
        fs::create_dir_all(&path).map_err(io(&path, "creation"))?;
        let lock = take_lock(&path)?;
        let format = path.join(FORMAT);
        let is_new = match fs::read(&format) {
            Ok(text) => {
                check_format(&format, &text)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(&path)?;
                write_format(&path).map_err(io(&format, "writing"))?;
                true
            }
            Err(error) => return Err(io(&format, "reading")(error)),
        };
        Ok(DataDir { path, is_new, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if the directory was empty.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// A handle for the files within.
    pub fn disk(&self) -> FileDisk {
        FileDisk::new(self.path.clone())
    }

    /// The directories that [`DataDir::set_aside`] made.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn set_aside_before(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(ASIDE_PREFIX) && entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Moves all files into a directory `damaged-NAME` within this one, where there is room for them and the right to
    /// write, but for the lock, the format and `kept`. They are durable there when it returns.
    ///
    /// `first` goes first, durably. Cut short by a crash, the rest is there with `first` missing, which a start must take
    /// for damage: never may a log that is gone look like one that never was.
    ///
    /// # Errors
    /// The directory exists, or a file cannot be moved; then some have been.
    pub fn set_aside(&self, name: &str, first: &str, kept: &[&str]) -> io::Result<PathBuf> {
        let aside = self.path.join(format!("{ASIDE_PREFIX}{name}"));
        fs::create_dir(&aside)?;
        let here = File::open(&self.path)?;
        here.sync_all()?;
        let mut names = vec![first.to_owned()];
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let stays = [LOCK, FORMAT, first].contains(&file.as_str()) || kept.contains(&file.as_str());
            if entry.file_type()?.is_file() && !stays {
                names.push(file);
            }
        }
        for (at, file) in names.iter().enumerate() {
            match fs::rename(self.path.join(file), aside.join(file)) {
                Err(error) if !(at == 0 && error.kind() == io::ErrorKind::NotFound) => return Err(error),
                _ => {}
            }
            if at == 0 {
                File::open(&aside)?.sync_all()?;
                here.sync_all()?;
            }
        }
        File::open(&aside)?.sync_all()?;
        here.sync_all()?;
        Ok(aside)
    }
}

fn take_lock(directory: &Path) -> Result<File, DataDirFault> {
    let path = directory.join(LOCK);
    let fault = |operation| {
        let path = path.clone();
        move |source| DataDirFault::Io { path, operation, source }
    };
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut lock = opened.map_err(fault("opening"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            let pid = lock.read_to_string(&mut owner).ok().and_then(|_| owner.trim().parse().ok());
            return Err(DataDirFault::Taken { path: directory.to_owned(), pid });
        }
        Err(error) => return Err(fault("locking")(error.into())),
    }
    // For the message above, in another process; nothing depends on it, so a full disk does not matter.
    let _ =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    Ok(lock)
}

fn check_format(path: &Path, text: &[u8]) -> Result<(), DataDirFault> {
    let version = str::from_utf8(text).ok().and_then(|t| t.strip_prefix(FORMAT_HEAD)?.strip_suffix('\n'));
    match version.and_then(|v| v.parse().ok()) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(version) if version > FORMAT_VERSION => {
            Err(DataDirFault::Newer { path: path.to_owned(), version })
        }
        Some(version) if version > 0 => Err(DataDirFault::Older { path: path.to_owned(), version }),
        _ => {
            let found = format!("expected `{FORMAT_HEAD}{FORMAT_VERSION}`");
            Err(DataDirFault::Damaged { path: path.to_owned(), found })
        }
    }
}

/// A directory without a format file must be empty but for what a first start leaves if it is cut short.
fn refuse_foreign(directory: &Path) -> Result<(), DataDirFault> {
    let fault = |source| DataDirFault::Io { path: directory.to_owned(), operation: "listing", source };
    for entry in fs::read_dir(directory).map_err(fault)? {
        let file = entry.map_err(fault)?.file_name().to_string_lossy().into_owned();
        if ![LOCK, FORMAT_UNFINISHED, "lost+found"].contains(&file.as_str()) {
            return Err(DataDirFault::Foreign { path: directory.to_owned(), file });
        }
    }
    Ok(())
}

fn write_format(directory: &Path) -> io::Result<()> {
    let unfinished = directory.join(FORMAT_UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(format!("{FORMAT_HEAD}{FORMAT_VERSION}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(FORMAT))?;
    File::open(directory)?.sync_all()?;
    // The directory itself may be new in its parent.
    let parent = directory.canonicalize()?;
    parent.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_path_and_pid() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("deep/data");
        let held = DataDir::open(&path).unwrap();
        assert!(held.is_new());
        let text = DataDir::open(&path).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        drop(held);
        assert!(!DataDir::open(&path).unwrap().is_new());
    }

    #[test]
    fn what_is_set_aside_is_whole_and_the_directory_can_be_used_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        for file in ["first", "log-1", "log-2", "peers"] {
            fs::write(temp.path().join(file), file).unwrap();
        }
        let aside = dir.set_aside("a", "first", &["peers"]).unwrap();
        assert_eq!(dir.set_aside_before().unwrap(), std::slice::from_ref(&aside));
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&aside), ["first", "log-1", "log-2"]);
        assert_eq!(names(temp.path()), ["damaged-a", "peers", FORMAT, LOCK]);
        assert_eq!(fs::read(aside.join("log-2")).unwrap(), b"log-2");
        assert!(dir.set_aside("a", "first", &["peers"]).is_err(), "nothing is overwritten");
        // What a crash in the middle left is set aside once more, although `first` has gone before.
        fs::write(temp.path().join("log-3"), "").unwrap();
        assert_eq!(names(&dir.set_aside("b", "first", &["peers"]).unwrap()), ["log-3"]);
        drop(dir);
        assert!(!DataDir::open(temp.path()).unwrap().is_new());
    }

    #[test]
    fn other_formats_and_foreign_files_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        drop(DataDir::open(temp.path()).unwrap());
        fs::write(temp.path().join(FORMAT), format!("{FORMAT_HEAD}3\n")).unwrap();
        assert!(matches!(DataDir::open(temp.path()), Err(DataDirFault::Newer { version: 3, .. })));
        fs::write(temp.path().join(FORMAT), format!("{FORMAT_HEAD}1\n")).unwrap();
        assert!(matches!(DataDir::open(temp.path()), Err(DataDirFault::Older { version: 1, .. })));
        for text in ["", "skep data directory, format ", "skep data directory, format 1", "tkep data"] {
            fs::write(temp.path().join(FORMAT), text).unwrap();
            assert!(matches!(DataDir::open(temp.path()), Err(DataDirFault::Damaged { .. })), "{text}");
        }
        fs::remove_file(temp.path().join(FORMAT)).unwrap();
        fs::write(temp.path().join("holiday.jpg"), "x").unwrap();
        let text = DataDir::open(temp.path()).unwrap_err().to_string();
        assert!(text.contains("holiday.jpg"), "{text}");
    }
}
