//! Bugs put in on purpose, in the driver around the production code, to see that the simulator finds them.

use skep_base::GroupId;
use skep_base::varint::{self, Reader};
use skep_log::{Disk, MemDisk};

/// Which mistake the simulated processes make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// The log tells the node that a batch is durable when it is written, before the sync. In a cluster: followers
    /// acknowledge before their sync.
    AcknowledgeBeforeSync,
    /// After a power cut the blocks of a torn batch that did not reach the disk pass for sound.
    TornTailAccepted,
    /// A checkpoint holds the state before its last entry. In a cluster it is installed elsewhere, too.
    CheckpointLacksLastEntry,
    /// A recorded checkpoint frees entries of the log that are not in it.
    LogTruncatedBeyondCheckpoint,
    /// An acknowledgement counts for all that the leader has, so that entries are committed that no majority has.
    AcknowledgeBeforeMajority,
    /// Leases are counted by a clock that stands still while the process is stopped.
    LeaseClockStops,
    /// The time by which a lease is judged was read before the request came: requests that come while the process is stopped
    /// are answered by the time of before.
    LeaseCheckedEarly,
    /// Leases are counted by a clock that is set with the wall clock.
    LeaseByWallClock,
    /// A leader without a lease takes the round that confirms it for done as soon as it begins.
    ReadWithoutRound,
    /// What a leader has carried out for another node is sent once more, as if it had not been.
    ForwardTwice,
    /// A start forgets what the log says of the term and the vote.
    VoteForgotten,
    /// A checkpoint lacks what `ONCE` remembers.
    CheckpointLacksTokens,
    /// Clients repeat what is uncertain without a token.
    RetryWithoutToken,
    /// A follower rests for ever, whatever becomes of the node that its leader is on.
    RestUnasked,
    /// Clients replace what they have read without having watched it.
    WatchLeftOut,
    /// The group that reads a stream is set back to its beginning.
    GroupRewound,
    /// The completion of a job is noted by a command beside the one that acknowledges it.
    NotedApart,
    /// Somebody lifts the limits of a queue.
    LimitsLifted,
    /// Somebody brings dead jobs back, of which nobody else knows.
    DeadRevived,
    /// Somebody puts off the next tick of a schedule.
    TickPutOff,
    /// Clients add jobs without the word that keeps them from being added twice.
    WordLeftOut,
    /// Somebody makes all shards forget their scripts.
    ScriptsForgotten,
}

impl Planted {
    pub const ALL: [Planted; 22] = [
        Planted::AcknowledgeBeforeSync,
        Planted::TornTailAccepted,
        Planted::CheckpointLacksLastEntry,
        Planted::LogTruncatedBeyondCheckpoint,
        Planted::AcknowledgeBeforeMajority,
        Planted::LeaseClockStops,
        Planted::LeaseCheckedEarly,
        Planted::LeaseByWallClock,
        Planted::ReadWithoutRound,
        Planted::ForwardTwice,
        Planted::VoteForgotten,
        Planted::CheckpointLacksTokens,
        Planted::RetryWithoutToken,
        Planted::RestUnasked,
        Planted::WatchLeftOut,
        Planted::GroupRewound,
        Planted::NotedApart,
        Planted::LimitsLifted,
        Planted::DeadRevived,
        Planted::TickPutOff,
        Planted::WordLeftOut,
        Planted::ScriptsForgotten,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Planted::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Planted::TornTailAccepted => "torn-tail-accepted",
            Planted::CheckpointLacksLastEntry => "checkpoint-lacks-last-entry",
            Planted::LogTruncatedBeyondCheckpoint => "log-truncated-beyond-checkpoint",
            Planted::AcknowledgeBeforeMajority => "acknowledge-before-majority",
            Planted::LeaseClockStops => "lease-clock-stops",
            Planted::LeaseCheckedEarly => "lease-checked-early",
            Planted::ForwardTwice => "forward-twice",
            Planted::VoteForgotten => "vote-forgotten",
            Planted::LeaseByWallClock => "lease-by-wall-clock",
            Planted::ReadWithoutRound => "read-without-round",
            Planted::CheckpointLacksTokens => "checkpoint-lacks-tokens",
            Planted::RetryWithoutToken => "retry-without-token",
            Planted::RestUnasked => "rest-unasked",
            Planted::WatchLeftOut => "watch-left-out",
            Planted::GroupRewound => "group-rewound",
            Planted::NotedApart => "noted-apart",
            Planted::LimitsLifted => "limits-lifted",
            Planted::DeadRevived => "dead-revived",
            Planted::TickPutOff => "tick-put-off",
            Planted::WordLeftOut => "word-left-out",
            Planted::ScriptsForgotten => "scripts-forgotten",
        }
    }

    pub fn parse(name: &str) -> Option<Planted> {
        Planted::ALL.into_iter().find(|p| p.name() == name)
    }

    /// True if only a read on a leader that others have replaced shows it.
    pub fn is_about_leases(self) -> bool {
        use Planted::{LeaseByWallClock, LeaseCheckedEarly, LeaseClockStops, ReadWithoutRound};
        matches!(self, LeaseByWallClock | LeaseCheckedEarly | LeaseClockStops | ReadWithoutRound)
    }

    /// True if messages between nodes are changed.
    pub fn is_on_the_wire(self) -> bool {
        matches!(self, Planted::AcknowledgeBeforeMajority | Planted::ForwardTwice | Planted::ReadWithoutRound)
    }
}

/// The first data shard, which is the one that most planted bugs are in.
pub const DATA: GroupId = GroupId(1);

const BLOCK: usize = 512;

/// The bytes of a checkpoint without what `ONCE` remembers: records behind their lengths, of which the last counts the others.
pub fn without_tokens(bytes: &[u8]) -> Vec<u8> {
    const ONCE: u8 = 3;
    const END: u8 = 2;
    let mut out = Vec::new();
    let (mut rest, mut dropped) = (bytes, 0);
    while rest.len() >= 8 {
        let len =
            u64::from_le_bytes([rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], rest[6], rest[7]]);
        let (record, behind) = rest[8..].split_at(len as usize);
        rest = behind;
        let mut record = record.to_vec();
        match record[0] {
            ONCE => {
                dropped += 1;
                continue;
            }
            END => {
                let count = Reader::new(&record[1..]).varint().unwrap_or_default();
                record.truncate(1);
                varint::put(&mut record, count - dropped);
            }
            _ => {}
        }
        out.extend_from_slice(&(record.len() as u64).to_le_bytes());
        out.extend_from_slice(&record);
    }
    out
}

/// Makes a torn batch at the end of the log look whole: each missing block gets a header that fits, with a checksum that is
/// right, around whatever bytes are there.
pub fn forge_torn_tail(disk: &mut MemDisk, salt: u64) {
    let Ok(names) = disk.list() else { return };
    for name in names.iter().filter(|n| n.starts_with("log-") && n.len() == 20) {
        let Some(content) = disk.content(name) else { continue };
        let sound = |at: usize| {
            let block = &content[at * BLOCK..(at + 1) * BLOCK];
            let crc = u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            (crc == seal(salt, at as u32, block)).then_some(block)
        };
        let u32_of = |block: &[u8], at: usize| {
            u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        let number = u64::from_str_radix(&name[4..], 16).unwrap_or(0).to_le_bytes();
        let blocks = content.len() / BLOCK;
        for at in 0..blocks {
            let Some(block) = sound(at).filter(|b| b[8..16] == number) else { continue };
            let (index, count) = (u32_of(block, 24) as usize, u32_of(block, 28) as usize);
            let Some(first) = at.checked_sub(index).filter(|first| first + count <= blocks) else { continue };
            for lost in first..first + count {
                if sound(lost).is_some_and(|b| b[8..24] == block[8..24]) {
                    continue;
                }
                let mut forged = content[lost * BLOCK..(lost + 1) * BLOCK].to_vec();
                forged[4..28].copy_from_slice(&block[4..28]);
                forged[24..28].copy_from_slice(&((lost - first) as u32).to_le_bytes());
                forged[28..32].copy_from_slice(&block[28..32]);
                let used: u16 = if lost + 1 == first + count { 60 } else { 480 };
                forged[4..6].copy_from_slice(&used.to_le_bytes());
                let crc = seal(salt, lost as u32, &forged);
                forged[..4].copy_from_slice(&crc.to_le_bytes());
                let _ = disk.write_at(name, (lost * BLOCK) as u64, &forged);
            }
        }
    }
}

fn seal(salt: u64, position: u32, block: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &position.to_le_bytes());
    crc32c::crc32c_append(crc, &block[4..])
}
