//! All databases of one shard, and the only functions that change them.
//!
//! Every change passes through [`Keyspace::table_mut`], which saves a table's state for a checkpoint before its first change
//! after the cut (INV-CUT-1: a cut holds exactly the state at the position where it was begun).

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use skep_base::{Args, Millis, Refusal, slot_of};
use skep_command::CommandSpec;

use crate::access::AccessClock;
use crate::commands::scripts::calls_script;
use crate::cut::Cut;
use crate::db::{Db, Entry, NEVER, SlotTable};
use crate::dense::{Iter, Keyed};
use crate::events::{Class, Events, Whole};
use crate::once::OnceTable;
use crate::pieces::Frozen;
use crate::scripts::{Interpreter, ScriptFlags, ScriptNote, Scripts};
use crate::small::SmallBytes;
use crate::transaction::Terms;
use crate::types::queue::{Next, Numbers, Schedule, Settled};
use crate::value::{Typed, Value};
use crate::versions::{Changes, Edit, Removals};

/// Numbered databases, as Redis has by default.
pub const DB_COUNT: u8 = 16;

/// The state machine of one data shard.
pub struct Keyspace {
    pub(crate) dbs: Vec<Db>,
    pub(crate) once: OnceTable,
    pub(crate) cut: Cut,
    pub(crate) stamp: Millis,
    /// For the jobs and leases of all queues.
    pub(crate) numbers: Numbers,
    /// Changes of entries so far, for `WATCH`.
    pub(crate) changes: Changes,
    /// Removals of keys so far, for `WATCH` of what is not there.
    pub(crate) removals: Removals,
    /// The newest edit in place, while it may turn out to be none. No state.
    edit: Option<Edit>,
    /// Shared with a cut that has not written them.
    pub(crate) scripts: Arc<Scripts>,
    /// Who runs them; away while one runs. No state.
    pub(crate) interpreter: RefCell<Option<Box<dyn Interpreter>>>,
    /// See [`Keyspace::set_no_memory`]. No state.
    no_memory: bool,
    /// What scripts may do, while the operation is carried out that says so. No state.
    terms: RefCell<Arc<Terms>>,
    pub(crate) stats: Stats,
    pub(crate) garbage: Garbage,
    /// A command runs that has waited; not part of the state.
    pub(crate) tries_again: Cell<bool>,
    /// A script runs that may write; not part of the state. What it reads decides what it writes, on every replica, so it is
    /// not shown what each node knows for itself.
    pub(crate) hides_figures: Cell<bool>,
    /// Kept until something changes: a node asks twice a turn, and most states change rarely.
    coming: Cell<Option<Coming>>,
    pub access: AccessClock,
    pub encodings: Encodings,
    /// What happened to keys, for whoever wants to know. No state.
    pub events: Events,
}

/// What time brings about in this state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Coming {
    deadline: Option<Millis>,
    wants_ticks: bool,
}

/// A schedule whose next tick the leader is to find.
pub struct WantedTick {
    pub db: u8,
    /// The queue's.
    pub key: Vec<u8>,
    pub schedule: Schedule,
}

/// Counters since the start of the process.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    pub expired_keys: u64,
    pub expired_fields: u64,
}

/// The sizes up to which Redis would use a compact encoding. They change what `OBJECT ENCODING` says, and which values `HSCAN`
/// and its kin give whole. Each node has its own.
#[derive(Clone, Debug)]
pub struct Encodings {
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    /// Positive: elements; -1 to -5: 4 KiB to 64 KiB.
    pub list_max_listpack_size: i64,
}

impl Encodings {
    /// Redis's own, which scripts that may write are shown on every node.
    pub const DEFAULT: Encodings = Encodings {
        hash_max_listpack_entries: 512,
        hash_max_listpack_value: 64,
        set_max_intset_entries: 512,
        set_max_listpack_entries: 128,
        set_max_listpack_value: 64,
        zset_max_listpack_entries: 128,
        zset_max_listpack_value: 64,
        list_max_listpack_size: -2,
    };
}

impl Default for Encodings {
    fn default() -> Encodings {
        Encodings::DEFAULT
    }
}

/// Memory that flushes and removals of large values left behind. Dropping it takes time in proportion to the elements, so
/// the shell does it elsewhere.
#[derive(Default)]
pub struct Garbage {
    pub(crate) tables: Vec<Vec<SlotTable>>,
    values: Vec<Value>,
    pub(crate) frozen: Vec<Frozen>,
}

/// Collections from this size on, in bytes, are left as garbage; smaller ones are dropped at once in microseconds.
const GARBAGE_BYTES_MIN: usize = 64 * 1024;

impl std::fmt::Debug for Garbage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Garbage { tables, values, frozen } = self;
        write!(f, "Garbage of {} groups of tables and {} values", tables.len(), values.len() + frozen.len())
    }
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        Keyspace {
            dbs: (0..DB_COUNT).map(Db::new).collect(),
            once: OnceTable::default(),
            cut: Cut::default(),
            stamp: Millis(0),
            numbers: Numbers::default(),
            changes: Changes::default(),
            removals: Removals::default(),
            edit: None,
            scripts: Arc::default(),
            no_memory: false,
            interpreter: RefCell::new(None),
            terms: RefCell::default(),
            stats: Stats::default(),
            garbage: Garbage::default(),
            tries_again: Cell::new(false),
            hides_figures: Cell::new(false),
            coming: Cell::new(None),
            access: AccessClock::default(),
            encodings: Encodings::default(),
            events: Events::default(),
        }
    }
}

impl Keyspace {
    /// The stamp of the newest entry applied. Never goes backwards.
    pub fn stamp(&self) -> Millis {
        self.stamp
    }

    /// How long replies to tokens of `ONCE` are kept by the entry about to be applied. It comes with the entry, like its time,
    /// so that all replicas keep them equally long.
    pub fn set_once_retention(&mut self, ms: u64) {
        self.once.retention_ms = ms;
    }

    /// Whether memory is short for the scripts of the entry about to be applied. It comes with the entry, since each replica
    /// counts its own memory and all must carry out the same.
    pub fn set_no_memory(&mut self, no_memory: bool) {
        self.no_memory = no_memory;
    }

    /// True if scripts may do nothing that needs more memory.
    pub fn has_no_memory(&self) -> bool {
        self.no_memory
    }

    /// Advances the shard's clock to the stamp of the entry about to be applied. An older stamp leaves it.
    pub fn advance(&mut self, stamp: Millis) -> Millis {
        self.coming.set(None);
        self.stamp = self.stamp.max(stamp);
        self.stamp
    }

    /// The scripts and libraries that the shard knows.
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// The same, to be changed. Cost: a copy of the tables, without the texts, if a cut has not written them.
    pub fn scripts_mut(&mut self) -> &mut Scripts {
        Arc::make_mut(&mut self.scripts)
    }

    /// Gives the keyspace who runs its scripts. Without one they are refused.
    pub fn set_interpreter(&mut self, interpreter: Box<dyn Interpreter>) {
        self.interpreter.replace(Some(interpreter));
    }

    /// What scripts may do that run from now on.
    pub(crate) fn set_terms(&self, terms: Terms) {
        if !(terms.is_empty() && self.terms.borrow().is_empty()) {
            self.terms.replace(Arc::new(terms));
        }
    }

    /// What the script may do that runs now.
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.borrow().clone()
    }

    /// See [`Interpreter::flags`].
    pub fn script_flags(&self, args: Args<'_>) -> Option<Option<ScriptFlags>> {
        self.interpreter.borrow().as_ref()?.flags(&self.scripts, args)
    }

    /// A call as its client sent it: without what its node has added, if it is one of a script.
    pub(crate) fn as_sent<'a>(&self, command: &CommandSpec, args: Args<'a>) -> Args<'a> {
        match self.interpreter.borrow().as_ref() {
            Some(interpreter) if calls_script(command) => interpreter.as_sent(args),
            _ => args,
        }
    }

    /// What scripts have logged since it was asked last, with the level as Redis numbers it.
    pub fn take_script_log(&self) -> Vec<(u8, Vec<u8>)> {
        self.interpreter
            .borrow_mut()
            .as_mut()
            .map(|interpreter| interpreter.take_logged())
            .unwrap_or_default()
    }

    /// What scripts did since it was asked last that the nodes of their clients are to know.
    pub fn take_script_notes(&self) -> Vec<ScriptNote> {
        let mut interpreter = self.interpreter.borrow_mut();
        interpreter.as_mut().map(|interpreter| interpreter.take_notes()).unwrap_or_default()
    }

    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The encodings to answer by.
    pub(crate) fn encodings_shown(&self) -> &Encodings {
        if self.hides_figures.get() { &Encodings::DEFAULT } else { &self.encodings }
    }

    /// Keys in database `db`, those past their deadline but not removed yet included.
    pub fn len(&self, db: u8) -> usize {
        self.db(db).keys
    }

    /// True if no database holds a key.
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(|db| db.keys == 0)
    }

    /// Keys of all databases.
    pub fn total_len(&self) -> usize {
        self.dbs.iter().map(|db| db.keys).sum()
    }

    /// Keys of all databases that have a deadline.
    pub fn total_volatile_len(&self) -> usize {
        self.dbs.iter().map(|db| db.volatile).sum()
    }

    /// Keys of `db` that have a deadline.
    pub fn volatile_len(&self, db: u8) -> usize {
        self.db(db).volatile
    }

    /// The mean of the deadlines of the keys of `db` that have one.
    pub fn mean_deadline(&self, db: u8) -> Option<Millis> {
        self.db(db).expiry.mean()
    }

    /// The entry of `key` if it may be seen at `now`. Does not record a use.
    #[inline]
    pub fn peek(&self, db: u8, key: &[u8], now: Millis) -> Option<&Entry> {
        let entry = self.db(db).slot(slot_of(key))?.entries.get(key)?;
        if entry.holds_due(now) {
            self.access.note_due();
            return entry.is_live(now).then_some(entry);
        }
        Some(entry)
    }

    /// True if `entry`, met on a walk, may be seen at `now`.
    #[inline]
    pub fn shows(&self, entry: &Entry, now: Millis) -> bool {
        let live = entry.is_live(now);
        if !live {
            self.access.note_due();
        }
        live
    }

    /// Keys in database `db` as a client counts them at `now`: those past their deadline but not removed yet included, as in
    /// Redis.
    pub fn count(&self, db: u8, now: Millis) -> usize {
        if self.db(db).next_due().is_some_and(|(deadline, _)| deadline < now) {
            self.access.note_due();
        }
        self.len(db)
    }

    /// The entry of `key` if it may be seen at `now`, for who reads it: records a use, counts a hit or a miss, and tells of a
    /// miss (`lookupKeyRead` in Redis).
    #[inline]
    pub fn get(&self, db: u8, key: &[u8], now: Millis) -> Option<&Entry> {
        let entry = self.get_untouched(db, key, now)?;
        self.access.touch(&entry.access);
        Some(entry)
    }

    /// As [`Keyspace::get`], and no use of the key.
    #[inline]
    pub fn get_untouched(&self, db: u8, key: &[u8], now: Millis) -> Option<&Entry> {
        let entry = self.peek(db, key, now);
        self.access.count(entry.is_some());
        if entry.is_none() {
            self.events.miss(db, key);
        }
        entry
    }

    /// The entry of `key` if it may be seen at `now`, for who changes it: records a use, and neither counts nor tells of a
    /// miss (`lookupKeyWrite` in Redis).
    #[inline]
    pub fn find(&self, db: u8, key: &[u8], now: Millis) -> Option<&Entry> {
        let entry = self.peek(db, key, now)?;
        self.access.touch(&entry.access);
        Some(entry)
    }

    /// [`AccessClock::take_saw_due`] for a read whose reply is then dropped, since it will run again: what it missed is
    /// forgotten, too.
    #[inline]
    pub fn take_saw_due(&self) -> bool {
        let saw_due = self.access.take_saw_due();
        if saw_due {
            self.events.forget_read();
        }
        saw_due
    }

    /// The value of `key`, to be changed in place; a key past its deadline is removed instead. Records a use.
    ///
    /// After a change that may have moved the value's inner deadline the caller calls [`Keyspace::reindex`], after one
    /// that may have emptied it [`Keyspace::remove_if_empty`].
    ///
    /// # Errors
    /// [`Refusal::WrongType`] if the key holds something else; nothing is changed.
    #[inline]
    pub fn value_mut<T: Typed>(&mut self, db: u8, key: &[u8]) -> Result<Option<&mut T>, Refusal> {
        let slot = slot_of(key);
        let now = self.stamp;
        let Some(table) = self.db(db).slot(slot) else { return Ok(None) };
        let Some(at) = table.entries.position(key) else { return Ok(None) };
        let entry = table.entries.at(at).expect("position was found above");
        if !entry.is_live(now) {
            self.expire_at(db, slot, at);
            return Ok(None);
        }
        if T::from_value(&entry.value).is_none() {
            return Err(Refusal::WrongType);
        }
        self.access.touch(&entry.access);
        let (before, version) = (entry.version, self.changes.next());
        self.edit = Some(Edit { before, version });
        let entry = self.table_mut(db, slot).entries.at_mut(at).expect("position was found above");
        entry.version = version;
        Ok(T::from_value_mut(&mut entry.value))
    }

    /// Lets `change` edit the value of `key` in place, then removes the key if that emptied it and brings the expiry index
    /// up to date; records a use. `None` if there is no such key. Fields past their deadline are removed first, so
    /// `change` sees none.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] if the key holds something else; what `change` refuses, which has then changed nothing.
    #[inline]
    pub fn update<T: Typed, R>(
        &mut self,
        db: u8,
        key: &[u8],
        change: impl FnOnce(&mut T) -> Result<R, Refusal>,
    ) -> Result<Option<R>, Refusal> {
        let slot = slot_of(key);
        let now = self.stamp;
        let Some(table) = self.db(db).slot(slot) else { return Ok(None) };
        let Some(at) = table.entries.position(key) else { return Ok(None) };
        let entry = table.entries.at(at).expect("position was found above");
        if !entry.is_live(now) {
            self.expire_at(db, slot, at);
            return Ok(None);
        }
        if T::from_value(&entry.value).is_none() {
            return Err(Refusal::WrongType);
        }
        self.access.touch(&entry.access);
        let (before, version_before) = (entry.value.next_deadline(), entry.version);
        let mut changes = self.changes;
        let entry = self.table_mut(db, slot).entries.at_mut(at).expect("position was found above");
        let value = &mut entry.value;
        let expired = match value {
            Value::Hash(hash) if before.is_some_and(|d| d < now) => hash.expire_fields(now, usize::MAX),
            _ => 0,
        };
        let result = change(T::from_value_mut(value).expect("its type was checked above"));
        if result.is_ok() || expired > 0 {
            entry.version = changes.next();
        }
        let (after, empty) = (value.next_deadline(), value.is_empty());
        let wants_tick = value.wants_tick();
        let edit = Edit { before: version_before, version: entry.version };
        self.edit = (result.is_ok() && expired == 0).then_some(edit);
        self.changes = changes;
        self.note_expired_fields(db, key, expired);
        if let Some(wants) = wants_tick {
            self.dbs[usize::from(db)].note_tick_wanted(key, wants);
        }
        if before != after {
            let database = &mut self.dbs[usize::from(db)];
            unindex(database, slot, NEVER, before);
            index(database, slot, NEVER, after);
        }
        if empty {
            self.remove_at(db, slot, at);
        }
        result.map(Some)
    }

    /// Lets the newest edit in place not count as a change of `key`, for `WATCH`: it was one of this key and turned out to change
    /// nothing, or nothing that Redis would tell of. Where it was another key's, or removed something that was due, nothing
    /// happens.
    pub fn spare_watchers(&mut self, db: u8, key: &[u8]) {
        let slot = slot_of(key);
        let Some(Edit { before, version }) = self.edit.take() else { return };
        let Some(at) = self.db(db).slot(slot).and_then(|table| table.entries.position(key)) else { return };
        let entry = self.table_mut(db, slot).entries.at_mut(at).expect("position was found above");
        if entry.version == version {
            entry.version = before;
        }
    }

    /// Sets `key` to `value` with `deadline` ([`NEVER`] for none), in place of whatever was there.
    #[inline]
    pub fn put(&mut self, db: u8, key: &[u8], value: Value, deadline: Millis) {
        let slot = slot_of(key);
        let (fresh, now) = (self.access.fresh(), self.stamp);
        let version = self.changes.next();
        let inner = value.next_deadline();
        let wants_tick = value.wants_tick() == Some(true);
        let table = self.table_mut(db, slot);
        let old = match table.entries.get_mut(key) {
            Some(entry) => {
                let was_live = entry.is_live(now);
                let old = (std::mem::replace(&mut entry.value, value), entry.deadline);
                entry.deadline = deadline;
                entry.access.set(fresh);
                entry.version = version;
                if !was_live {
                    self.removals.add(db, key);
                    self.note_expired(db, key, old.1);
                    self.events.key(db, Class::New, "new", key);
                }
                Some(old)
            }
            None => {
                let small = SmallBytes::new(key);
                table.entries.insert_new(Entry {
                    key: small,
                    value,
                    deadline,
                    access: fresh.into(),
                    version,
                });
                self.events.key(db, Class::New, "new", key);
                None
            }
        };
        let database = &mut self.dbs[usize::from(db)];
        database.note_tick_wanted(key, wants_tick);
        match old {
            Some((old_value, old_deadline)) => {
                unindex(database, slot, old_deadline, old_value.next_deadline());
                index(database, slot, deadline, inner);
                self.discard(old_value);
            }
            None => {
                database.count_keys(slot, 1);
                index(database, slot, deadline, inner);
            }
        }
    }

    /// Removes `key` and gives back its value and deadline; `None` if it is not there or past its deadline (then it is
    /// gone all the same).
    pub fn take(&mut self, db: u8, key: &[u8]) -> Option<(Value, Millis)> {
        let slot = slot_of(key);
        let at = self.db(db).slot(slot)?.entries.position(key)?;
        let entry = self.remove_at(db, slot, at);
        if entry.is_live(self.stamp) {
            Some((entry.value, entry.deadline))
        } else {
            self.note_expired(db, key, entry.deadline);
            self.discard(entry.value);
            None
        }
    }

    /// Removes `key`, leaving a large value as garbage. True if it was there and not past its deadline.
    pub fn remove(&mut self, db: u8, key: &[u8]) -> bool {
        match self.take(db, key) {
            Some((value, _)) => {
                self.discard(value);
                true
            }
            None => false,
        }
    }

    /// Removes `key` because memory is short. True if it was there and not past its deadline.
    pub fn evict(&mut self, db: u8, key: &[u8]) -> bool {
        let removed = self.remove(db, key);
        if removed {
            self.events.key(db, Class::Evicted, "evicted", key);
        }
        removed
    }

    /// Changes the deadline of `key` ([`NEVER`] for none). False if the key is not there.
    pub fn set_deadline(&mut self, db: u8, key: &[u8], deadline: Millis) -> bool {
        let slot = slot_of(key);
        let Some(at) = self.db(db).slot(slot).and_then(|t| t.entries.position(key)) else { return false };
        let version = self.changes.next();
        let entry = self.table_mut(db, slot).entries.at_mut(at).expect("position was found above");
        entry.version = version;
        let old = std::mem::replace(&mut entry.deadline, deadline);
        let database = &mut self.dbs[usize::from(db)];
        unindex(database, slot, old, None);
        index(database, slot, deadline, None);
        true
    }

    /// Brings the expiry index up to date after the value of `key` changed in place; `before` is what its
    /// [`Value::next_deadline`] was before the change.
    pub fn reindex(&mut self, db: u8, key: &[u8], before: Option<Millis>) {
        self.coming.set(None);
        let slot = slot_of(key);
        let after =
            self.db(db).slot(slot).and_then(|t| t.entries.get(key)).and_then(|e| e.value.next_deadline());
        if before != after {
            let database = &mut self.dbs[usize::from(db)];
            unindex(database, slot, NEVER, before);
            index(database, slot, NEVER, after);
        }
        let entry = self.db(db).slot(slot).and_then(|t| t.entries.get(key));
        if let Some(wants) = entry.and_then(|e| e.value.wants_tick()) {
            self.dbs[usize::from(db)].note_tick_wanted(key, wants);
        }
    }

    /// Removes `key` if its value is an empty collection. True if it did.
    pub fn remove_if_empty(&mut self, db: u8, key: &[u8]) -> bool {
        let slot = slot_of(key);
        let Some(table) = self.db(db).slot(slot) else { return false };
        let Some(at) = table.entries.position(key) else { return false };
        let empty = table.entries.at(at).is_some_and(|e| e.value.is_empty());
        if empty {
            self.remove_at(db, slot, at);
        }
        empty
    }

    /// Removes every key of `db`. Cost: as [`Keyspace::count_all_removed`].
    pub fn flush(&mut self, db: u8) {
        self.coming.set(None);
        self.count_all_removed(db);
        let label = self.db(db).cut_label;
        let tables = self.dbs[usize::from(db)].take_tables();
        let garbage = self.cut.adopt(label, tables);
        if !garbage.is_empty() {
            self.garbage.tables.push(garbage);
        }
        self.events.database(db, Whole::Flushed);
    }

    /// What flushes and removals left behind, to be dropped where it stalls nobody. To be called often: nothing is given
    /// back before.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        let Garbage { tables, values, frozen } = &self.garbage;
        if tables.is_empty() && values.is_empty() && frozen.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.garbage))
    }

    /// Gets rid of a value that was taken out.
    #[inline]
    pub fn discard(&mut self, value: Value) {
        // The memory of a string is one piece, given back at once.
        if !matches!(value, Value::Str(_)) && value.heap_bytes() >= GARBAGE_BYTES_MIN {
            self.garbage.values.push(value);
        }
    }

    /// Exchanges the contents of two databases.
    pub fn swap(&mut self, a: u8, b: u8) {
        if a != b {
            for db in [a, b] {
                self.count_all_removed(db);
                self.removals.add_swap(db);
            }
        }
        self.dbs.swap(usize::from(a), usize::from(b));
        self.events.database(a, Whole::Swapped);
        self.events.database(b, Whole::Swapped);
    }

    /// The key at `rank` of `db`, in an order that replicas agree on. Expired keys count. Cost: O(256).
    pub fn nth(&self, db: u8, rank: usize) -> Option<&Entry> {
        self.db(db).nth(rank)
    }

    /// Entries of one slot of `db` in order, expired ones included.
    pub fn slot_entries(
        &self,
        db: u8,
        slot: u16,
    ) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.db(db).slot(slot).map_or_else(Iter::default, |table| table.entries.iter())
    }

    /// Every entry of `db`, expired ones included.
    pub fn entries(&self, db: u8) -> impl Iterator<Item = &Entry> {
        self.db(db).entries()
    }

    /// The first slot of `db` from `from` on that holds a key, expired ones included.
    pub fn next_used_slot(&self, db: u8, from: u16) -> Option<u16> {
        self.db(db).next_used_slot(from)
    }

    /// The newest number of a job or token of a lease. Only grows (INV-QUEUE-2).
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Up to `limit` schedules of queues whose next tick the leader is to find and log.
    pub fn ticks_wanted(&self, limit: usize) -> Vec<WantedTick> {
        let mut wanted = Vec::new();
        for db in 0..DB_COUNT {
            for key in &self.db(db).ticks_wanted {
                let entry = self.db(db).slot(slot_of(key)).and_then(|t| t.entries.get(key));
                let Some(Value::Queue(queue)) = entry.map(|e| &e.value) else {
                    panic!("{key:?} of database {db} is no queue, and a tick of it is wanted")
                };
                let schedules = queue.schedules().iter().filter(|s| s.next == Next::Wanted);
                wanted.extend(schedules.map(|s| WantedTick { db, key: key.to_vec(), schedule: s.clone() }));
                if wanted.len() >= limit {
                    wanted.truncate(limit);
                    return wanted;
                }
            }
        }
        wanted
    }

    /// True if the leader is to find a tick. Cost: as [`Keyspace::next_deadline`].
    pub fn wants_ticks(&self) -> bool {
        self.coming().wants_ticks
    }

    /// Tokens that `ONCE` remembers.
    pub fn once_len(&self) -> usize {
        self.once.len()
    }

    /// The earliest deadline of any key, field or token of `ONCE`, or instant past which a queue does something by itself.
    /// Cost: O(1), and a look at each database after a change.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.coming().deadline
    }

    fn coming(&self) -> Coming {
        let coming = self.coming.get().unwrap_or_else(|| self.computed_coming());
        self.coming.set(Some(coming));
        coming
    }

    fn computed_coming(&self) -> Coming {
        let due = self.dbs.iter().filter_map(Db::next_due).map(|(deadline, _)| deadline);
        Coming {
            deadline: due.chain(self.once.next_deadline()).min(),
            wants_ticks: self.dbs.iter().any(|db| !db.ticks_wanted.is_empty()),
        }
    }

    /// Removes up to about `limit` keys, fields and tokens whose deadline has passed, the earliest of each database first; ends
    /// leases and delays of queues likewise. The same state and stamp remove the same on every replica. Gives the number
    /// removed.
    pub fn sweep(&mut self, limit: usize) -> usize {
        self.coming.set(None);
        let now = self.stamp;
        let mut removed = 0;
        for db in 0..DB_COUNT {
            while removed < limit
                && let Some((deadline, slot)) = self.db(db).next_due()
                && deadline < now
            {
                let progress = self.sweep_slot(db, slot, limit - removed);
                assert!(
                    progress > 0,
                    "slot {slot} of database {db} is due at {deadline:?} but holds nothing due"
                );
                removed += progress;
            }
        }
        while removed < limit
            && let Some((place, record)) = self.once.pop_due(now)
        {
            self.cut.before_once_removal(place, &record);
            removed += 1;
        }
        removed
    }

    /// Panics if counts, indexes and tables disagree. Cost: O(keys).
    pub fn assert_invariants(&self) {
        for db in &self.dbs {
            db.assert_invariants();
        }
        self.once.assert_invariants();
        self.scripts.assert_invariants();
        if let Some(coming) = self.coming.get() {
            assert_eq!(coming, self.computed_coming(), "what comes next was not looked for after a change");
        }
    }

    #[inline]
    pub(crate) fn db(&self, db: u8) -> &Db {
        &self.dbs[usize::from(db)]
    }

    /// The one way to a table that is about to change.
    #[inline]
    pub(crate) fn table_mut(&mut self, db: u8, slot: u16) -> &mut SlotTable {
        self.coming.set(None);
        let database = &mut self.dbs[usize::from(db)];
        let label = database.cut_label;
        let table = database.slot_mut(slot, self.cut.number());
        self.cut.before_change(label, table);
        table
    }

    fn remove_at(&mut self, db: u8, slot: u16, at: usize) -> Entry {
        let entry = self.table_mut(db, slot).entries.remove_at(at);
        self.removals.add(db, entry.key());
        let database = &mut self.dbs[usize::from(db)];
        unindex(database, slot, entry.deadline, entry.value.next_deadline());
        if entry.value.wants_tick() == Some(true) {
            database.note_tick_wanted(entry.key(), false);
        }
        database.count_keys(slot, -1);
        entry
    }

    /// Removes an entry that is past its deadline.
    fn expire_at(&mut self, db: u8, slot: u16, at: usize) {
        let entry = self.remove_at(db, slot, at);
        self.note_expired(db, entry.key(), entry.deadline);
        self.discard(entry.value);
    }

    /// Notes the end of a key that could not be seen any more: because of its own deadline, or of those of all its fields.
    #[cold]
    fn note_expired(&mut self, db: u8, key: &[u8], deadline: Millis) {
        self.stats.expired_keys += 1;
        if deadline < self.stamp {
            self.events.key(db, Class::Expired, "expired", key);
        } else {
            self.events.key(db, Class::Hash, "hexpired", key);
            self.events.key(db, Class::Generic, "del", key);
        }
    }

    #[inline]
    fn note_expired_fields(&mut self, db: u8, key: &[u8], fields: usize) {
        if fields > 0 {
            self.stats.expired_fields += fields as u64;
            self.events.key(db, Class::Hash, "hexpired", key);
        }
    }

    /// Notes what a queue did by itself.
    pub(crate) fn note_settled(&mut self, db: u8, key: &[u8], settled: Settled) {
        let Settled { readied, died, dropped, .. } = settled;
        for (happened, name) in [(readied, "qready"), (died, "qdead"), (dropped, "qexpired")] {
            if happened {
                self.events.key(db, Class::Module, name, key);
            }
        }
    }

    /// Removes what is due in one slot: whole keys, and up to about `limit` fields of hashes; lets happen what queues do by
    /// themselves.
    fn sweep_slot(&mut self, db: u8, slot: u16, limit: usize) -> usize {
        let now = self.stamp;
        let mut removed = 0;
        let mut at = self.db(db).slot(slot).map_or(0, |t| t.entries.len());
        while at > 0 && removed < limit {
            at -= 1;
            let (numbers, mut changes) = (self.numbers, self.changes);
            let entry = self.table_mut(db, slot).entries.at_mut(at).expect("walked downwards");
            if !entry.is_live(now) {
                self.expire_at(db, slot, at);
                removed += 1;
                continue;
            }
            let before = entry.value.next_deadline();
            if before.is_none_or(|d| d >= now) {
                continue;
            }
            let left = limit - removed;
            let mut numbers = numbers;
            let (fields, settled) = match &mut entry.value {
                Value::Hash(hash) => (hash.expire_fields(now, left), Settled::default()),
                Value::Queue(queue) => (0, queue.settle(now, left, &mut numbers)),
                _ => panic!("only hashes and queues hold deadlines"),
            };
            if fields + settled.count > 0 {
                entry.version = changes.next();
            }
            let key = entry.key().to_vec();
            (self.numbers, self.changes) = (numbers, changes);
            removed += fields + settled.count;
            self.note_expired_fields(db, &key, fields);
            self.note_settled(db, &key, settled);
            self.reindex(db, &key, before);
            if self.remove_if_empty(db, &key) {
                self.events.key(db, Class::Generic, "del", &key);
            }
        }
        removed
    }
}

fn index(db: &mut Db, slot: u16, deadline: Millis, inner: Option<Millis>) {
    if deadline != NEVER {
        db.expiry.add(deadline, slot);
        db.volatile += 1;
    }
    if let Some(inner) = inner {
        db.field_expiry.add(inner, slot);
    }
}

fn unindex(db: &mut Db, slot: u16, deadline: Millis, inner: Option<Millis>) {
    if deadline != NEVER {
        db.expiry.remove(deadline, slot);
        db.volatile -= 1;
    }
    if let Some(inner) = inner {
        db.field_expiry.remove(inner, slot);
    }
}
