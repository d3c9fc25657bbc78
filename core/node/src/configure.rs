//! Settings taken into use: at the start, and after `CONFIG SET`.

use skep_keyspace::{Encodings, EvictionPolicy};
use skep_resp::Limits;

use crate::{Node, Output};

/// How often connections are looked at, since that takes time in proportion to them: `timeout` counts seconds.
pub(crate) const IDLE_CHECK_MS: u64 = 1_000;

impl Node {
    /// Takes over every setting that the node keeps in another form.
    pub(crate) fn configure(&mut self) {
        let settings = &self.settings;
        self.decoder_limits = Limits {
            bulk_bytes_max: settings.bulk_bytes_max(),
            command_bytes_max: settings.client_query_buffer_bytes_max(),
            ..Limits::default()
        };
        self.memory.limit = settings.maxmemory_bytes();
        self.memory.samples = settings.maxmemory_samples() as usize;
        let policy = self.settings.maxmemory_policy();
        self.memory.policy = EvictionPolicy::parse(policy.as_bytes()).expect("the table names policies only");
        self.memory.search_again();
        self.second_told = None;
        let mode = self.memory.policy.access_mode();
        let encodings = Encodings {
            hash_max_listpack_entries: settings.hash_max_listpack_entries() as usize,
            hash_max_listpack_value: settings.hash_max_listpack_value() as usize,
            set_max_intset_entries: settings.set_max_intset_entries() as usize,
            set_max_listpack_entries: settings.set_max_listpack_entries() as usize,
            set_max_listpack_value: settings.set_max_listpack_value() as usize,
            zset_max_listpack_entries: settings.zset_max_listpack_entries() as usize,
            zset_max_listpack_value: settings.zset_max_listpack_value() as usize,
            list_max_listpack_size: settings.list_max_listpack_size(),
        };
        let (factor, decay) = (settings.lfu_log_factor(), settings.lfu_decay_minutes());
        let output_limits = self.settings.output_limits();
        self.output_max = output_limits.normal.hard_bytes;
        self.pubsub.limit = output_limits.pubsub;
        self.caching.keys_max = self.settings.tracking_table_keys_max() as usize;
        let wants_misses = self.configure_notify();
        for replica in self.shards.iter_mut().filter_map(|s| s.replica.as_mut()) {
            let keyspace = &mut replica.keyspace;
            keyspace.encodings = encodings.clone();
            keyspace.events.want_misses(wants_misses);
            keyspace.access.set_mode(mode);
            keyspace.access.lfu_log_factor = factor;
            keyspace.access.lfu_decay_minutes = decay;
        }
        let settings = &self.settings;
        let threshold = u64::try_from(settings.slowlog_log_slower_than_micros()).ok();
        let entries_max = usize::try_from(settings.slowlog_max_len()).unwrap_or(usize::MAX);
        self.slow.configure(threshold, entries_max, settings.latency_monitor_threshold_ms());
        self.learn_users();
    }

    /// Closes connections that have been silent for longer than `timeout`.
    pub(crate) fn close_idle_clients(&mut self, out: &mut Vec<Output>) {
        let seconds = self.settings.timeout_seconds();
        if seconds == 0 {
            return;
        }
        let now = self.now.mono;
        if now.since(self.idle_checked) < IDLE_CHECK_MS {
            return;
        }
        self.idle_checked = now;
        let idle = |c: &&crate::client::Client| {
            !c.inside
                && c.pending() == 0
                && !c.waiting
                && !c.subscribed
                && now.since(c.last_active) > seconds * 1_000
        };
        let expired: Vec<_> = self.clients.iter().filter(idle).map(|c| c.id).collect();
        for conn in expired {
            self.drop_client(conn, format!("idle for more than {seconds} s"), out);
        }
    }
}
