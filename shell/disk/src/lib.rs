//! Real files under the log of `core/log`: a directory as a [`skep_log::Disk`], its lock, and the threads that keep slow
//! disks away from the node's loop. Decides nothing that `core/log` can decide.

mod data_dir;
mod file_disk;

pub use data_dir::{DataDir, DataDirFault, FORMAT_VERSION};
pub use file_disk::FileDisk;
