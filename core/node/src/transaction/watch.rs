//! `WATCH`, `UNWATCH`: what was seen of keys that must look the same when `EXEC` is carried out.

use std::collections::btree_map::Entry;

use skep_base::{Args, ConnId, Refusal};
use skep_command::{CommandId, id_of};
use skep_keyspace::{Seen, Watched, handler_of};
use skep_resp::{Reply, Value};

use crate::joined::Becomes;
use crate::local::Call as LocalCall;
use crate::on_client::Flow;
use crate::run::{Asked, not_ready};
use crate::{Node, Output};

/// `WATCH key ...`: asks the shard how the keys look. The client waits for them: `EXEC` needs them.
pub(super) fn watch(node: &mut Node, conn: ConnId, args: Args<'_>, out: &mut Vec<Output>) -> Flow {
    const WATCH: CommandId = id_of("watch");
    let client = node.client(conn);
    if client.transaction.as_ref().is_some_and(|tx| tx.open) {
        return node.answer_error(conn, WATCH, &Refusal::text("ERR WATCH inside MULTI is not allowed"));
    }
    if client.pending() > 0 {
        client.waiting = true;
        return Flow::Wait;
    }
    let command = WATCH.spec();
    let found = match !node.ready || node.stopping {
        true => Err(not_ready()),
        false => node.group_for(command, args),
    };
    let group = found.and_then(|group| {
        let tx = node.client(conn).transaction.get_or_insert_default();
        if tx.watched.is_empty() {
            tx.shard = None;
        }
        tx.check_shard(group, command).map(|()| group)
    });
    let group = match group {
        Ok(group) => group,
        Err(refusal) => return node.refuse(conn, Some(command), &refusal),
    };
    let bytes_max = node.settings.client_query_buffer_bytes_max() as usize;
    let client = node.client(conn);
    let watched = client.transaction.as_ref().map_or(0, |tx| tx.watched_bytes);
    let bytes = watched + args.bytes() + args.len() * size_of::<Watched>();
    if bytes > bytes_max {
        let text = format!("ERR watched keys are {bytes} bytes, limit is {bytes_max}");
        return node.refuse(conn, Some(command), &Refusal::format(text));
    }
    let keys = args.from(1).iter().map(<[u8]>::to_vec).collect();
    let becomes = Becomes::Watched { db: client.db, keys };
    let handler = handler_of(command).expect("WATCH is carried out by shards");
    node.join(Asked { conn, command, handler, args }, &[group], becomes, out);
    Flow::Done
}

pub(super) fn unwatch(node: &mut Node, conn: ConnId, args: Args<'_>, _: &mut Vec<Output>) -> Flow {
    const UNWATCH: CommandId = id_of("unwatch");
    if let Some(tx) = &mut node.client(conn).transaction {
        if tx.open {
            // When it runs, EXEC has forgotten them.
            node.queue_own(conn, UNWATCH.spec(), unwatched, args);
            return node.answer_in_order(conn, None, |reply| reply.simple("QUEUED"));
        }
        tx.end();
    }
    node.answer_in_order(conn, Some(UNWATCH.spec()), |reply| reply.ok())
}

fn unwatched(_: &mut Node, call: LocalCall) -> Result<(), Refusal> {
    call.reply.ok();
    Ok(())
}

impl Node {
    /// What is seen of keys that a client wanted to watch is here, or an error.
    pub(crate) fn begin_watching(
        &mut self,
        conn: ConnId,
        db: u8,
        keys: Vec<Vec<u8>>,
        reply: &[u8],
        output: &mut Vec<u8>,
    ) {
        let parsed = Value::parse(reply).ok().flatten();
        let seen = parsed.as_ref().and_then(|(value, _)| value.as_elements());
        let Some(seen) = seen.filter(|seen| seen.len() == keys.len()) else {
            return output.extend_from_slice(reply);
        };
        let client = self.client(conn);
        let protocol = client.protocol;
        let tx = client.transaction.get_or_insert_default();
        for (key, seen) in keys.into_iter().zip(seen) {
            let seen = Seen::from_bits(seen.as_int().unwrap_or_default() as u64);
            // What was seen when it was watched first is what counts.
            let bytes = size_of::<Watched>() + key.len();
            if let Entry::Vacant(place) = tx.watched.entry((db, key)) {
                place.insert(seen);
                tx.watched_bytes += bytes;
            }
        }
        Reply::new(output, protocol).ok();
    }
}
