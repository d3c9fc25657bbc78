//! Values and the execution of commands on them: `(arguments, now, seed) -> reply and changed state`.
//!
//! Deterministic: the same commands with the same stamps and seeds give byte-equal state on every replica and after every
//! restore from a checkpoint. Owns no connection and no clock; see DESIGN.md beside this crate.

mod access;
mod bits;
pub mod commands;
mod content_bytes;
mod context;
mod cut;
mod db;
mod dense;
mod dispatch;
pub mod events;
mod evict;
mod expiry;
mod geohash;
mod hyperloglog;
mod index;
mod keyspace;
mod listpack;
mod once;
mod pieces;
mod rdb;
pub mod scripts;
mod segments;
mod small;
mod sorted;
mod transaction;
pub mod types;
mod value;
mod versions;
mod waits;

pub use access::{Access, AccessClock, AccessMode};
pub use commands::copies::CopiesWanted;
pub use commands::parse::database as parse_database;
pub use commands::queues::next_tick_call;
pub use commands::scripts::{NO_MEMORY_FOR_SCRIPT, SCRIPT_READ, SCRIPT_WRITE, calls_script};
pub use context::{ReadCx, WriteCx};
pub use cut::{Restore, RestoreError};
pub use db::{Entry, NEVER};
pub use dense::{DenseMap, Keyed};
pub use dispatch::{Handler, handler_of, handlers};
pub use evict::EvictionPolicy;
pub use keyspace::{DB_COUNT, Encodings, Garbage, Keyspace, Stats, WantedTick};
pub use rdb::functions::{BadPayload, load as load_libraries};
pub use small::SmallBytes;
pub use transaction::{
    EXEC_READ, Head, Terms, Watched, each_queued, first_queued, is_transaction, names_other_shards,
    put_queued,
};
pub use types::{Hash, List, Queue, Set, Str, Stream, StreamId, ZSet};
pub use value::{Kind, Typed, Value};
pub use versions::Seen;
pub use waits::{Brings, Wait, WaitKind, brings};
