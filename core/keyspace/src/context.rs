//! What a command sees while it runs: the keyspace, its database, the time and a seeded generator.
//!
//! Reads get a [`ReadCx`], which cannot change anything; writes get a [`WriteCx`]. The reply is a separate argument, so that
//! a value may be borrowed while it is written out.

use skep_base::{Millis, Refusal, Rng};

use crate::db::{Entry, NEVER};
use crate::events::{Channel, Class};
use crate::keyspace::Keyspace;
use crate::value::{Typed, Value};

/// The surroundings of a read.
pub struct ReadCx<'a> {
    pub keyspace: &'a Keyspace,
    /// The connection's database.
    pub db: u8,
    /// The time by which deadlines are judged.
    pub now: Millis,
    /// For `RANDOMKEY` and its kin. Its draws are nobody else's business: reads are not replicated.
    pub rng: &'a mut Rng,
}

impl<'a> ReadCx<'a> {
    /// The entry of `key` in the connection's database; records a use.
    #[inline]
    pub fn entry(&self, key: &[u8]) -> Option<&'a Entry> {
        self.keyspace.get(self.db, key, self.now)
    }

    /// As [`ReadCx::entry`], for what says something of the key and not what it holds: no use of it.
    #[inline]
    pub fn entry_untouched(&self, key: &[u8]) -> Option<&'a Entry> {
        self.keyspace.get_untouched(self.db, key, self.now)
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] if the key holds something else.
    #[inline]
    pub fn read<T: Typed + 'a>(&self, key: &[u8]) -> Result<Option<&'a T>, Refusal> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => T::from_value(&entry.value).map(Some).ok_or(Refusal::WrongType),
        }
    }

    /// As [`ReadCx::read`]; a key of another type holds nothing for a command that has waited.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] at the first try.
    pub fn read_waited<T: Typed + 'a>(&self, key: &[u8]) -> Result<Option<&'a T>, Refusal> {
        match self.read(key) {
            Err(Refusal::WrongType) if self.keyspace.tries_again.get() => Ok(None),
            other => other,
        }
    }
}

/// The surroundings of a write, while its log entry is applied. Everything here is the same on every replica.
pub struct WriteCx<'a> {
    pub keyspace: &'a mut Keyspace,
    pub db: u8,
    /// The entry's stamp; equals `keyspace.stamp()`.
    pub now: Millis,
    /// Seeded by the entry.
    pub rng: &'a mut Rng,
}

impl WriteCx<'_> {
    /// This context as a read's, for the reading part of a write.
    pub fn as_read(&mut self) -> ReadCx<'_> {
        ReadCx { keyspace: self.keyspace, db: self.db, now: self.now, rng: self.rng }
    }

    /// The entry of `key`, to be changed or replaced; records a use. Where Redis has `lookupKeyWrite`.
    #[inline]
    pub fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.keyspace.find(self.db, key, self.now)
    }

    /// The entry of `key`, which the command reads whatever it changes: counts a hit or a miss, and tells of a miss. Where Redis
    /// has `lookupKeyRead`.
    #[inline]
    pub fn read_entry(&self, key: &[u8]) -> Option<&Entry> {
        self.keyspace.get(self.db, key, self.now)
    }

    #[inline]
    pub fn exists(&self, key: &[u8]) -> bool {
        self.keyspace.peek(self.db, key, self.now).is_some()
    }

    /// The value of `key` as a `T`.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] if the key holds something else.
    #[inline]
    pub fn read<T: Typed>(&self, key: &[u8]) -> Result<Option<&T>, Refusal> {
        match self.entry(key) {
            None => Ok(None),
            Some(entry) => T::from_value(&entry.value).map(Some).ok_or(Refusal::WrongType),
        }
    }

    /// As [`WriteCx::read`], by [`WriteCx::read_entry`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn read_value<T: Typed>(&self, key: &[u8]) -> Result<Option<&T>, Refusal> {
        match self.read_entry(key) {
            None => Ok(None),
            Some(entry) => T::from_value(&entry.value).map(Some).ok_or(Refusal::WrongType),
        }
    }

    /// True if `key` holds a `T`. A key of another type holds nothing for a command that has waited for it: the type was
    /// changed meanwhile, as in Redis.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] at the first try.
    pub fn has_waited_for<T: Typed>(&self, key: &[u8]) -> Result<bool, Refusal> {
        match self.read::<T>(key) {
            Ok(value) => Ok(value.is_some()),
            Err(Refusal::WrongType) if self.keyspace.tries_again.get() => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// The value of `key` as a `T`, to be changed in place. Follow with [`WriteCx::changed`] if elements may have been
    /// removed or inner deadlines moved.
    ///
    /// # Errors
    /// [`Refusal::WrongType`] if the key holds something else; nothing is changed.
    #[inline]
    pub fn modify<T: Typed>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Refusal> {
        self.keyspace.value_mut(self.db, key)
    }

    /// As [`WriteCx::modify`], with a new empty value if there is no such key. The caller puts something into it, or calls
    /// [`WriteCx::changed`], which removes an empty one.
    pub fn modify_or_create<T: Typed>(&mut self, key: &[u8]) -> Result<&mut T, Refusal> {
        if self.read::<T>(key)?.is_none() {
            self.keyspace.put(self.db, key, T::default().into_value(), NEVER);
        }
        Ok(self.keyspace.value_mut(self.db, key)?.expect("found or put above"))
    }

    /// Edits the value of `key` in place; see [`Keyspace::update`].
    ///
    /// # Errors
    /// [`Refusal::WrongType`] if the key holds something else; what `change` refuses, which has then changed nothing.
    #[inline]
    pub fn update<T: Typed, R>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut T) -> Result<R, Refusal>,
    ) -> Result<Option<R>, Refusal> {
        self.keyspace.update(self.db, key, change)
    }

    /// As [`WriteCx::update`], with a new value if there is no such key; it is kept unless `change` leaves it empty.
    #[inline]
    pub fn update_or_create<T: Typed, R>(
        &mut self,
        key: &[u8],
        mut change: impl FnMut(&mut T) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        if let Some(result) = self.update(key, &mut change)? {
            return Ok(result);
        }
        let mut value = T::default();
        let result = change(&mut value)?;
        if !value.is_empty() {
            self.put(key, value, NEVER);
        }
        Ok(result)
    }

    /// To be called after a change in place: removes the key if its value became empty (true then), else brings the expiry
    /// index up to date. `deadline_before` is the value's `next_deadline()` before the change (`None` for types without).
    pub fn changed(&mut self, key: &[u8], deadline_before: Option<Millis>) -> bool {
        self.keyspace.reindex(self.db, key, deadline_before);
        self.keyspace.remove_if_empty(self.db, key)
    }

    /// Sets `key` to `value` with `deadline` ([`NEVER`] for none), in place of whatever was there.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: impl Typed, deadline: Millis) {
        self.keyspace.put(self.db, key, value.into_value(), deadline);
    }

    /// As [`WriteCx::put`] for a collection made by the command: an empty one removes the key (the `*STORE` commands). The
    /// event is `name`, or `del`.
    pub fn store(&mut self, key: &[u8], value: impl Typed, class: Class, name: &'static str) {
        if !value.is_empty() {
            self.put(key, value, NEVER);
            self.event(class, name, key);
        } else if self.remove(key) {
            self.event(Class::Generic, "del", key);
        }
    }

    /// Removes `key`. True if it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.keyspace.remove(self.db, key)
    }

    /// Removes `key` and gives back its value and deadline.
    pub fn take(&mut self, key: &[u8]) -> Option<(Value, Millis)> {
        self.keyspace.take(self.db, key)
    }

    /// Notes that `name` happened to `key`: where Redis calls `signalModifiedKey` or `notifyKeyspaceEvent`, and only if
    /// something changed. See [`crate::events`].
    #[inline]
    pub fn event(&mut self, class: Class, name: &'static str, key: &[u8]) {
        self.keyspace.events.key(self.db, class, name, key);
    }

    /// To be called behind an edit of `key` in place that turned out to change nothing, or nothing of which Redis tells those who
    /// watch the key: it does not stop their transactions. Forgotten, it does, and they try again.
    pub fn spare_watchers(&mut self, key: &[u8]) {
        self.keyspace.spare_watchers(self.db, key);
    }

    /// [`WriteCx::event`] if something `changed`, else [`WriteCx::spare_watchers`].
    #[inline]
    pub fn event_if(&mut self, changed: bool, class: Class, name: &'static str, key: &[u8]) {
        if changed {
            self.event(class, name, key);
        } else {
            self.spare_watchers(key);
        }
    }

    /// [`WriteCx::event_then_del`] if something `changed`, else [`WriteCx::spare_watchers`].
    #[inline]
    pub fn event_then_del_if(&mut self, changed: bool, class: Class, name: &'static str, key: &[u8]) {
        if changed {
            self.event_then_del(class, name, key);
        } else {
            self.spare_watchers(key);
        }
    }

    /// As [`WriteCx::event`] after a change that may have emptied the value of `key`: if the key is gone, `del` follows.
    #[inline]
    pub fn event_then_del(&mut self, class: Class, name: &'static str, key: &[u8]) {
        if self.keyspace.events.is_recording() {
            self.event(class, name, key);
            if !self.exists(key) {
                self.event(Class::Generic, "del", key);
            }
        }
    }

    /// Publishes a message: it leaves when the entry is applied, from the node that proposed it. How many get it is not known
    /// here, and must not be part of a reply.
    pub fn publish(&mut self, kind: Channel, channel: &[u8], message: &[u8]) {
        self.keyspace.events.publish(kind, channel, message);
    }

    /// The deadline of `key`: `None` if there is no such key, [`NEVER`] if it stays.
    pub fn deadline(&self, key: &[u8]) -> Option<Millis> {
        self.keyspace.peek(self.db, key, self.now).map(|e| e.deadline)
    }

    /// Changes the deadline of `key`; [`NEVER`] for none.
    pub fn set_deadline(&mut self, key: &[u8], deadline: Millis) -> bool {
        self.keyspace.set_deadline(self.db, key, deadline)
    }
}
