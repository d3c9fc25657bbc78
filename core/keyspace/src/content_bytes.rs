//! What a key takes, judged by its content alone: the same on every replica, unlike what is allocated for it. Scripts that may
//! write see this figure and may write it down, so its numbers are part of what replicas agree on.

use skep_base::Millis;

use crate::db::Entry;
use crate::value::Value;

/// Elements of a collection that are looked at.
const SAMPLES: usize = 16;

/// A key, its value's place in it, and its share of an index.
const ENTRY_BYTES: usize = 64;
/// Longer strings are kept beside their entry, longer names beside their element.
const STRING_IN_PLACE: usize = 14;
const NAME_IN_PLACE: usize = 22;
/// Elements without what is kept beside them.
const LIST_ELEMENT_BYTES: usize = 4;
const FIELD_BYTES: usize = 64;
const MEMBER_BYTES: usize = 32;
const SCORED_MEMBER_BYTES: usize = 48;
const JOB_BYTES: usize = 160;
const GROUP_BYTES: usize = 128;
const PENDING_BYTES: usize = 64;

/// Bytes that a key and its value take, a collection judged by its first elements. Cost: bounded.
pub(crate) fn content_bytes(entry: &Entry) -> usize {
    let value = match &entry.value {
        Value::Str(text) if text.len() > STRING_IN_PLACE => text.len(),
        Value::Str(_) => 0,
        Value::List(list) => sum(list.len(), LIST_ELEMENT_BYTES, list.iter().map(<[u8]>::len)),
        Value::Hash(hash) => {
            let fields = hash.iter(Millis(0)).map(|field| beside(&field.name) + beside(&field.value));
            sum(hash.positions(), FIELD_BYTES, fields)
        }
        Value::Set(set) => sum(set.len(), MEMBER_BYTES, set.iter().map(|member| beside(member))),
        Value::ZSet(zset) => {
            let members = zset.members().iter().map(|member| beside(&member.name));
            sum(zset.len(), SCORED_MEMBER_BYTES, members)
        }
        Value::Queue(queue) => {
            let jobs = queue.jobs().iter().map(|job| beside(&job.id) + job.payload.len());
            sum(queue.jobs().len(), JOB_BYTES, jobs)
        }
        Value::Stream(stream) => {
            let groups = stream.groups().map(|(_, group)| group.pending_len() * PENDING_BYTES);
            stream.weight() + sum(stream.group_count(), GROUP_BYTES, groups)
        }
    };
    ENTRY_BYTES + beside(&entry.key) + value
}

/// `count` elements of `each` bytes and what they have beside that.
fn sum(count: usize, each: usize, beside: impl Iterator<Item = usize>) -> usize {
    let (seen, bytes) = beside.take(SAMPLES).fold((0, 0), |(seen, sum), bytes| (seen + 1, sum + bytes));
    count * each + (bytes * count).checked_div(seen).unwrap_or(0)
}

fn beside(name: &[u8]) -> usize {
    if name.len() > NAME_IN_PLACE { name.len() } else { 0 }
}
