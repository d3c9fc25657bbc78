//! Settings taken into use: at the start, and after `CONFIG SET`.

use skep_keyspace::{AccessMode, Encodings, EvictionPolicy};
use skep_resp::Limits;

use crate::{Node, Output};

impl Node {
    /// Takes over every setting that the node keeps in another form.
    pub(crate) fn configure(&mut self) {
        let settings = &self.settings;
        self.decoder_limits = Limits {
            bulk_bytes_max: u32::try_from(settings.bulk_bytes_max()).unwrap_or(u32::MAX),
            command_bytes_max: u32::try_from(settings.client_query_buffer_bytes_max()).unwrap_or(u32::MAX),
            ..Limits::default()
        };
        self.memory.limit = settings.maxmemory_bytes();
        self.memory.samples = settings.maxmemory_samples() as usize;
        let policy = self.setting("maxmemory-policy");
        self.memory.policy = EvictionPolicy::parse(&policy);
        let mode = self.memory.policy.map_or(AccessMode::Lru, EvictionPolicy::access_mode);
        let number = |name: &str| self.setting(name).parse::<i64>().unwrap_or(0);
        let size = |name: &str| usize::try_from(number(name)).unwrap_or(0);
        let encodings = Encodings {
            hash_max_listpack_entries: size("hash-max-listpack-entries"),
            hash_max_listpack_value: size("hash-max-listpack-value"),
            set_max_intset_entries: size("set-max-intset-entries"),
            set_max_listpack_entries: size("set-max-listpack-entries"),
            set_max_listpack_value: size("set-max-listpack-value"),
            zset_max_listpack_entries: size("zset-max-listpack-entries"),
            zset_max_listpack_value: size("zset-max-listpack-value"),
            list_max_listpack_size: number("list-max-listpack-size"),
        };
        let (factor, decay) = (number("lfu-log-factor") as u32, number("lfu-decay-time") as u32);
        let keyspace = &mut self.shard.keyspace;
        keyspace.encodings = encodings;
        keyspace.access.set_mode(mode);
        keyspace.access.lfu_log_factor = factor;
        keyspace.access.lfu_decay_minutes = decay;
    }

    /// The text of a setting that the table has.
    fn setting(&self, name: &str) -> String {
        self.settings.get(name).expect("the name is a row of the table of settings")
    }

    /// Closes connections that have been silent for longer than `timeout`.
    pub(crate) fn close_idle_clients(&mut self, out: &mut Vec<Output>) {
        let seconds = self.settings.timeout_seconds();
        if seconds == 0 {
            return;
        }
        let now = self.now.mono;
        let idle = |c: &&crate::client::Client| c.pending == 0 && now.since(c.last_active) > seconds * 1_000;
        let expired: Vec<_> = self.clients.iter().filter(idle).map(|c| c.id).collect();
        for conn in expired {
            self.drop_client(conn, format!("idle for more than {seconds} s"), out);
        }
    }
}
