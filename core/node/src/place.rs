//! Where a command of the keyspace is carried out: the shard of its keys, here or in another cell.

use skep_base::{Args, GroupId, Refusal, slot_of};
use skep_command::{CommandSpec, Keys, SortPattern, carried_out, sort_patterns};
use skep_keyspace::names_other_shards;

use crate::Node;
use crate::copies::waits_for_copies;
use crate::run::not_ready;
use crate::scripting::{concerns_all_shards, is_scripting};

/// Where the shard of a command is.
pub(crate) enum Place {
    /// Here, at this place among the shards.
    Here(usize),
    /// In the cell that is its home.
    Elsewhere(GroupId),
    /// All shards.
    All,
    /// Those that the client has written to.
    Written,
}

impl Node {
    /// The place of the shard that a command's keys belong to.
    #[inline]
    pub(crate) fn shard_for(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<Place, Refusal> {
        if self.cells.one_shard && self.shards.len() == 1 {
            return Ok(Place::Here(0));
        }
        self.shard_of_many(command, args)
    }

    fn shard_of_many(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<Place, Refusal> {
        let keys = match command.keys(args) {
            Ok(keys) => keys,
            // Any shard says what is wrong with its number of keys.
            Err(_) if is_scripting(command) => Keys::default(),
            Err(_) => return Err(Refusal::Syntax),
        };
        let mut shards = keys.iter().map(|key| self.meta.state.shard_of(slot_of(&args[key.index])));
        let Some(first) = shards.next() else {
            if is_scripting(command) {
                return self.shard_of_scripts(command);
            }
            if waits_for_copies(command) {
                return Ok(Place::Written);
            }
            let text = format!(
                "ERR {} concerns all {} shards of this cluster; such commands are not available with more than one shard",
                command.name,
                self.meta.state.shards.len()
            );
            return Err(Refusal::format(text));
        };
        if let Some(other) = shards.find(|shard| *shard != first) {
            let (first, other) = (first.unwrap_or_default(), other.unwrap_or_default());
            let text = format!(
                "ERR the keys of {} are in shards {first} and {other}; commands over several shards are not available: \
                 give keys that belong together a hash tag, as in {{tag}}key",
                command.name
            );
            return Err(Refusal::format(text));
        }
        let shard = first.ok_or_else(not_ready)?;
        if self.meta.state.shards.len() > 1 {
            let (command, args) = carried_out(command, args);
            let is_elsewhere = |pattern: &SortPattern<'_>| {
                pattern.names_keys()
                    && pattern.slot().and_then(|slot| self.meta.state.shard_of(slot)) != Some(shard)
            };
            if let Some(other) = sort_patterns(command, args).find(is_elsewhere) {
                return Err(names_other_shards(command, other));
            }
        }
        if !self.cells.is_home(shard) {
            return Ok(Place::Elsewhere(shard));
        }
        self.shard_of_group(shard).map(Place::Here).ok_or_else(not_ready)
    }

    /// The place of what a command about scripts without keys is about.
    fn shard_of_scripts(&self, command: &CommandSpec) -> Result<Place, Refusal> {
        if concerns_all_shards(command) {
            return Ok(Place::All);
        }
        let first = *self.meta.state.shards.keys().next().ok_or_else(not_ready)?;
        match self.cells.is_home(first) {
            true => self.shard_of_group(first).map(Place::Here).ok_or_else(not_ready),
            false => Ok(Place::Elsewhere(first)),
        }
    }
}
