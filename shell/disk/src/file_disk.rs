//! [`skep_log::Disk`] over one directory of real files.
//!
//! Owns open handles, decides nothing. Any number of handles of one directory may be in use, each on its own thread.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use skep_log::{Disk, DiskError};

/// Zero bytes written and synced at a time when a file is created. Small enough that the log's own sync, which waits
/// behind it in the device, waits a few milliseconds at most.
const ZERO_BYTES: usize = 1 << 20;
/// A handle of a directory.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    /// The file used last. One only, since an open file that another handle removes would keep its space.
    open: Option<(String, File)>,
}

impl FileDisk {
    /// Makes a handle of `directory`, which exists.
    pub fn new(directory: impl Into<PathBuf>) -> FileDisk {
        FileDisk { directory: directory.into(), open: None }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn fault(&self, file: &str, operation: &'static str, error: &io::Error) -> DiskError {
        let file = self.path(file).display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound => DiskError::NotFound { file },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full { file },
            _ => DiskError::Io { file, operation, message: error.to_string() },
        }
    }

    /// Zero-fills in pieces, each synced, so that other syncs of the device never wait for long.
    fn zero_fill(&self, file: &File, len: u64) -> io::Result<()> {
        if len > 0 {
            // Asks for the whole space at once, so that a full disk is known at the start and the file is in few pieces.
            // Not every file system can; the zeroes below ask for it then.
            match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let zeros = vec![0; ZERO_BYTES.min(len as usize)];
        let mut offset = 0;
        while offset < len {
            let now = (len - offset).min(ZERO_BYTES as u64) as usize;
            file.write_all_at(&zeros[..now], offset)?;
            file.sync_data()?;
            offset += now as u64;
        }
        file.sync_all()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&mut self, file: &str) -> Result<&File, DiskError> {
        if self.open.as_ref().is_none_or(|(name, _)| name != file) {
            let opened = OpenOptions::new().read(true).write(true).open(self.path(file));
            let opened = opened.map_err(|e| self.fault(file, "opening", &e))?;
            self.open = Some((file.to_owned(), opened));
        }
        let (_, opened) = self.open.as_ref().expect("it was opened above");
        Ok(opened)
    }

    /// Before the name comes to mean another file or none.
    fn close(&mut self, file: &str) {
        self.open.take_if(|(name, _)| name == file);
    }
}

impl Clone for FileDisk {
    /// Another handle of the same directory, for another thread, with no file open.
    fn clone(&self) -> FileDisk {
        FileDisk::new(self.directory.clone())
    }
}

impl Disk for FileDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.names().map_err(|e| self.fault("", "listing", &e))
    }

    fn len(&mut self, file: &str) -> Result<u64, DiskError> {
        Ok(fs::metadata(self.path(file)).map_err(|e| self.fault(file, "stat", &e))?.len())
    }

    fn read_at(&mut self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let done = self.open(file)?.read_exact_at(buffer, offset);
        done.map_err(|e| self.fault(file, "reading", &e))
    }

    fn create(&mut self, file: &str, len: u64) -> Result<(), DiskError> {
        self.close(file);
        let mut options = OpenOptions::new();
        let created = options.read(true).write(true).create(true).truncate(true).open(self.path(file));
        let created = created.map_err(|e| self.fault(file, "creating", &e))?;
        self.zero_fill(&created, len).map_err(|e| self.fault(file, "creating", &e))
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let done = self.open(file)?.write_all_at(bytes, offset);
        done.map_err(|e| self.fault(file, "writing", &e))
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        let done = self.open(file)?.sync_data();
        done.map_err(|e| self.fault(file, "syncing", &e))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.close(from);
        self.close(to);
        fs::rename(self.path(from), self.path(to)).map_err(|e| self.fault(from, "renaming", &e))
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.close(file);
        fs::remove_file(self.path(file)).map_err(|e| self.fault(file, "removing", &e))
    }

    fn sync_dir(&mut self) -> Result<(), DiskError> {
        let done = File::open(&self.directory).and_then(|directory| directory.sync_all());
        done.map_err(|e| self.fault("", "syncing", &e))
    }
}
