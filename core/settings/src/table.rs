//! The table of settings. To add one, add a row here; flag, variable, key, `CONFIG` and documentation follow.
//!
//! Ranges, defaults and units of Redis's settings are those of Redis 7 (observed with redis-server 7.0.15 and read in
//! the redis.conf of 7.4), except where the row says otherwise.

use crate::{Effect, Effect::*, Kind, Kind::*, SettingSpec, Settings};

const INT_MAX: i64 = i32::MAX as i64;
/// Redis allows more. A request has to fit into one entry of the log, which is 1 GiB at most.
const REQUEST_BYTES_MAX: u64 = 1 << 30;
/// Redis allows more. A value has to fit into an entry beside others, and 512 MiB is what clients expect.
const BULK_BYTES_MAX: u64 = 512 << 20;

/// Every setting, those of skep first, then those of Redis that do something, then the rest.
pub const SETTINGS: &[SettingSpec] = &[
    row(
        "data-dir",
        Dir,
        "./skep-data",
        AtStart,
        "",
        "Everything the node keeps. One process at a time uses it.",
    ),
    row(
        "name",
        Label,
        "",
        AtStart,
        "",
        "The node's name, unique in the cluster. Empty: the name of the host.",
    ),
    row("listen", Listen, "127.0.0.1:6379", AtStart, "", "Where clients connect (RESP)."),
    row(
        "peer-listen",
        Listen,
        "127.0.0.1:7379",
        AtStart,
        "",
        "Where other nodes connect; for a cluster over several machines an address of this one.",
    ),
    row(
        "http-listen",
        Listen,
        "127.0.0.1:8379",
        AtStart,
        "",
        "Where health, metrics and the JSON API answer.",
    ),
    row("advertise", Host, "", AtStart, "", "The host that others are told. Empty: the listen address."),
    row(
        "join",
        Peers,
        "",
        AtStart,
        "",
        "Peer addresses of nodes to form a cluster with, or of members of one to join, in any order; this node's own may \
         be among them. A node that belongs to a cluster only looks there for members that moved. Empty: an empty node is \
         a cluster by itself.",
    ),
    row(
        "replicas",
        int(1, 7),
        "3",
        AtStart,
        "",
        "Copies of each shard, as far as there are nodes. Counts when the cluster is founded.",
    ),
    row(
        "shards",
        int(1, 4096),
        "1",
        AtStart,
        "",
        "Parts of the keys, each with its copies and a leader of its own; a command on keys of several is refused. Counts \
         when the cluster is founded.",
    ),
    row(
        "cores",
        int(0, 1024),
        "0",
        AtStart,
        "",
        "Processor cores that the shards of this node run on, a thread for each. No more are used than there are shards. 0: \
         all that the process may use.",
    ),
    row(
        "zone",
        Label,
        "",
        AtStart,
        "",
        "What fails together with this node, such as its rack; copies are spread over zones. Empty: none.",
    ),
    row(
        "request-timeout",
        int(10, 3_600_000),
        "5000",
        AtStart,
        "ms",
        "How long a request may take before it is answered with an error.",
    ),
    row("insecure", YesNo, "no", AtStart, "", "Allow listening beyond loopback without a password."),
    row(
        "requirepass",
        Secret,
        "",
        Live,
        "",
        "The password that clients must give (AUTH), and that nodes prove to one another that they know. Empty: none. Not \
         a flag, since others would see it in the list of processes.",
    ),
    row(
        "requirepass-file",
        File,
        "",
        AtStart,
        "",
        "A file whose first line is the password. Excludes requirepass.",
    ),
    row(
        "durability",
        Choice(&["disk", "memory"]),
        "disk",
        AtStart,
        "",
        "When a write is answered: after it is on the disk of a majority of its copies, or after it is in memory (a crash \
         loses the last moments), which is for shards with a single copy; others have disk.",
    ),
    row(
        "once-retention",
        int(1, 31_536_000),
        "86400",
        Live,
        "s",
        "How long the reply to a token of ONCE is kept. That of the shard's leader counts, for replies from then on.",
    ),
    row(
        "checkpoint-log-bytes",
        bytes(64 << 10, 1 << 40),
        "256mb",
        AtStart,
        "bytes",
        "How much log gathers before a checkpoint is taken and the log before it is dropped.",
    ),
    row(
        "log-segment-bytes",
        bytes(64 << 10, 1 << 30),
        "64mb",
        AtStart,
        "bytes",
        "The size at which a new log file is begun.",
    ),
    row(
        "log-level",
        Choice(&["error", "warn", "info", "debug", "trace"]),
        "info",
        AtStart,
        "",
        "The least important lines that are written to standard error.",
    ),
    row("log-format", Choice(&["text", "json"]), "text", AtStart, "", "The form of those lines."),
    row(
        "slowlog-log-slower-than",
        int(-1, i64::MAX),
        "10000",
        Live,
        "us",
        "How long a command takes that SLOWLOG keeps. -1: none is kept.",
    ),
    row(
        "slowlog-max-len",
        count(),
        "128",
        Live,
        "",
        "How many commands SLOWLOG keeps, in each cell of the node.",
    ),
    row(
        "latency-monitor-threshold",
        int(0, i64::MAX),
        "0",
        Live,
        "ms",
        "How long a command takes that LATENCY takes a sample of. 0: none is taken.",
    ),
    row(
        "acllog-max-len",
        count(),
        "128",
        Live,
        "",
        "How many of the last denials ACL LOG keeps, in each cell of the node.",
    ),
    row(
        "maxmemory",
        bytes(0, u64::MAX),
        "0",
        Live,
        "bytes",
        "How much memory may be allocated before keys are evicted or writes refused. 0: no limit.",
    ),
    row(
        "maxmemory-policy",
        Choice(&[
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ]),
        "noeviction",
        Live,
        "",
        "What is evicted when maxmemory is reached; with noeviction, writes that grow are refused instead.",
    ),
    row(
        "maxmemory-samples",
        int(1, INT_MAX),
        "5",
        Live,
        "",
        "How many keys eviction compares in each round.",
    ),
    row(
        "lfu-log-factor",
        int(0, INT_MAX),
        "10",
        Live,
        "",
        "How many uses of a key it takes to raise its frequency (allkeys-lfu, volatile-lfu): more, the higher it is.",
    ),
    row(
        "lfu-decay-time",
        int(0, INT_MAX),
        "1",
        Live,
        "min",
        "How long a key is not used before its frequency is lowered by one. 0: never.",
    ),
    row("maxclients", int(1, u32::MAX as i64), "10000", Live, "", "Client connections at once."),
    row(
        "timeout",
        int(0, INT_MAX),
        "0",
        Live,
        "s",
        "How long a client may be idle before it is disconnected. 0: never.",
    ),
    row(
        "tcp-keepalive",
        int(0, INT_MAX),
        "300",
        Live,
        "s",
        "How long a connection is idle before the kernel probes it. 0: never. New connections take a change.",
    ),
    row(
        "client-query-buffer-limit",
        bytes(1 << 20, REQUEST_BYTES_MAX),
        "1gb",
        Live,
        "bytes",
        "How much of its requests a client may send ahead of their answers before it is disconnected.",
    ),
    row(
        "proto-max-bulk-len",
        bytes(1 << 20, BULK_BYTES_MAX),
        "512mb",
        Live,
        "bytes",
        "The greatest size of one argument.",
    ),
    row(
        "client-output-buffer-limit",
        OutputLimits,
        // Redis leaves the class normal without a limit; here everything has one. 1 GiB is twice the largest value, so
        // that a reply never trips over it by itself.
        "normal 1gb 256mb 60 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
        Live,
        "bytes",
        "How much of the replies a client may leave unread before it is disconnected: at once past HARD, after SECONDS \
         past SOFT, for each class of client. 0: no limit.",
    ),
    row(
        "notify-keyspace-events",
        EventClasses,
        "",
        Shared,
        "",
        "Which events of keys are published to subscribers: K for channels by key, E by event, and the letters of classes of \
         events, A for all but n and m. Empty: none. CONFIG SET changes it for the whole cluster, and then what is said here \
         does not count any more.",
    ),
    row(
        "latency-tracking-info-percentiles",
        Percentiles,
        "50 99 99.9",
        Live,
        "",
        "The percentiles of each command's time that INFO latencystats shows. Empty: none.",
    ),
    row(
        "tracking-table-max-keys",
        count(),
        "1000000",
        Live,
        "keys",
        "How many keys a cell remembers as read by clients that cache them (CLIENT TRACKING). Of more, some count as changed. \
         0: no limit.",
    ),
    // Facts.
    fact("databases", |_| "16".to_owned(), "Databases to SELECT."),
    fact("port", |s| s.listen().port().to_string(), "The port of listen."),
    fact("bind", |s| s.listen().ip().to_string(), "The address of listen."),
    fact("dir", |s| s.data_dir().to_owned(), "The path of data-dir."),
    fact("cluster-enabled", |_| "no".to_owned(), "Clients need not know about the cluster."),
    // What OBJECT ENCODING says. The layout itself is the same on all replicas and not a setting.
    encoding("hash-max-listpack-entries", count(), "512"),
    encoding("hash-max-listpack-value", bytes(0, u64::MAX), "64"),
    encoding("list-max-listpack-size", int(i32::MIN as i64, INT_MAX), "-2"),
    encoding("set-max-intset-entries", count(), "512"),
    encoding("set-max-listpack-entries", count(), "128"),
    encoding("set-max-listpack-value", bytes(0, u64::MAX), "64"),
    encoding("zset-max-listpack-entries", count(), "128"),
    encoding("zset-max-listpack-value", bytes(0, u64::MAX), "64"),
    remembered("list-compress-depth", int(0, INT_MAX), "0", LAYOUT),
    remembered("hll-sparse-max-bytes", bytes(0, u64::MAX), "3000", LAYOUT),
    remembered("stream-node-max-bytes", bytes(0, u64::MAX), "4096", LAYOUT),
    remembered("stream-node-max-entries", count(), "100", LAYOUT),
    remembered("activerehashing", YesNo, "yes", LAYOUT),
    remembered("activedefrag", YesNo, "no", LAYOUT),
    alias("hash-max-ziplist-entries", "hash-max-listpack-entries"),
    alias("hash-max-ziplist-value", "hash-max-listpack-value"),
    alias("list-max-ziplist-size", "list-max-listpack-size"),
    alias("zset-max-ziplist-entries", "zset-max-listpack-entries"),
    alias("zset-max-ziplist-value", "zset-max-listpack-value"),
    // Remembered: eviction and expiry.
    remembered("maxmemory-clients", Text, "0", "Clients are limited one by one, by their buffers."),
    remembered("maxmemory-eviction-tenacity", int(0, 100), "10", "Eviction has a fixed share of a turn."),
    remembered("active-expire-effort", int(1, 10), "1", "Expired keys are removed in every turn."),
    remembered("lazyfree-lazy-eviction", YesNo, "no", LAZY),
    remembered("lazyfree-lazy-expire", YesNo, "no", LAZY),
    remembered("lazyfree-lazy-server-del", YesNo, "no", LAZY),
    remembered("lazyfree-lazy-user-del", YesNo, "no", LAZY),
    remembered("lazyfree-lazy-user-flush", YesNo, "no", LAZY),
    remembered("replica-lazy-flush", YesNo, "no", LAZY),
    alias("slave-lazy-flush", "replica-lazy-flush"),
    remembered("hz", int(0, INT_MAX), "10", "Background work is done in every turn, not by a timer."),
    remembered("dynamic-hz", YesNo, "yes", "Background work is done in every turn, not by a timer."),
    // Remembered: Redis's own persistence and replication, of which skep has another kind.
    remembered("save", SavePoints, "", LOG),
    remembered("appendonly", YesNo, "no", LOG),
    remembered("appendfsync", Choice(&["everysec", "always", "no"]), "everysec", LOG),
    remembered("no-appendfsync-on-rewrite", YesNo, "no", LOG),
    remembered("auto-aof-rewrite-percentage", int(0, INT_MAX), "100", LOG),
    remembered("auto-aof-rewrite-min-size", bytes(0, i64::MAX as u64), "64mb", LOG),
    remembered("aof-use-rdb-preamble", YesNo, "yes", LOG),
    remembered("rdbcompression", YesNo, "yes", LOG),
    remembered("rdb-key-save-delay", int(i32::MIN as i64, INT_MAX), "0", LOG),
    remembered("key-load-delay", int(i32::MIN as i64, INT_MAX), "0", LOG),
    remembered("stop-writes-on-bgsave-error", YesNo, "yes", LOG),
    remembered(
        "sanitize-dump-payload",
        Choice(&["no", "yes", "clients"]),
        "no",
        "RESTORE always checks its payload.",
    ),
    remembered("min-replicas-to-write", int(0, INT_MAX), "0", REPLICAS),
    remembered("min-replicas-max-lag", int(0, INT_MAX), "10", REPLICAS),
    remembered("replica-serve-stale-data", YesNo, "yes", REPLICAS),
    remembered("replica-read-only", YesNo, "yes", REPLICAS),
    remembered("replica-priority", int(0, INT_MAX), "100", REPLICAS),
    remembered("repl-backlog-size", bytes(1, i64::MAX as u64), "1mb", REPLICAS),
    remembered("repl-timeout", int(1, INT_MAX), "60", REPLICAS),
    remembered("repl-diskless-sync", YesNo, "yes", REPLICAS),
    remembered("repl-diskless-sync-delay", int(0, INT_MAX), "5", REPLICAS),
    remembered("repl-ping-replica-period", int(1, INT_MAX), "10", REPLICAS),
    alias("min-slaves-to-write", "min-replicas-to-write"),
    alias("min-slaves-max-lag", "min-replicas-max-lag"),
    alias("slave-serve-stale-data", "replica-serve-stale-data"),
    alias("slave-read-only", "replica-read-only"),
    alias("slave-priority", "replica-priority"),
    alias("repl-ping-slave-period", "repl-ping-replica-period"),
    // Remembered: what is watched and reported.
    remembered("latency-tracking", YesNo, "yes", "Latency is always measured."),
    remembered(
        "loglevel",
        Choice(&["debug", "verbose", "notice", "warning"]),
        "notice",
        "log-level, given at start, decides.",
    ),
    // Remembered or told, since test suites and tools ask for them.
    fact("appenddirname", |_| String::new(), LOG),
    fact("appendfilename", |_| String::new(), LOG),
    fact("dbfilename", |_| String::new(), "Checkpoints have names of their own in data-dir."),
    fact("rdbchecksum", |_| "yes".to_owned(), "Whatever is on disk has checksums."),
    fact("syslog-enabled", |_| "no".to_owned(), "The log goes to standard error."),
    fact("syslog-facility", |_| "local0".to_owned(), "The log goes to standard error."),
    fact("syslog-ident", |_| "skep".to_owned(), "The log goes to standard error."),
    fact("acl-pubsub-default", |_| "resetchannels".to_owned(), "A new user may use no channel."),
    fact("aclfile", |_| String::new(), "Users are kept by the cluster."),
    fact("daemonize", |_| "no".to_owned(), "skep runs in the foreground."),
    fact("io-threads", |_| "1".to_owned(), "See cores."),
    fact("logfile", |_| String::new(), "The log goes to standard error."),
    fact("pidfile", |_| String::new(), "None is written."),
    fact("protected-mode", |_| "no".to_owned(), "See insecure."),
    fact("supervised", |_| "no".to_owned(), "Whoever starts the process supervises it."),
    fact(
        "tcp-backlog",
        |_| "128".to_owned(),
        "How many connections the kernel keeps that are not accepted yet.",
    ),
    fact("tls-port", |_| "0".to_owned(), "There is no TLS."),
    fact("unixsocket", |_| String::new(), "There is none."),
    remembered("crash-log-enabled", YesNo, "yes", "What ends the process is told on standard error."),
    remembered("crash-memcheck-enabled", YesNo, "yes", "What ends the process is told on standard error."),
    remembered("jemalloc-bg-thread", YesNo, "yes", "The allocator is another."),
    remembered("loading-process-events-interval-bytes", int(1_024, INT_MAX), "2097152", LOG),
    remembered(
        "oom-score-adj",
        Choice(&["no", "yes", "relative", "absolute"]),
        "no",
        "Whoever starts the process decides what the kernel ends first.",
    ),
    remembered("oom-score-adj-values", Text, "0 200 800", "See oom-score-adj."),
    remembered("active-defrag-cycle-max", int(1, 99), "25", LAYOUT),
    remembered("active-defrag-cycle-min", int(1, 99), "1", LAYOUT),
    remembered("active-defrag-ignore-bytes", bytes(1, i64::MAX as u64), "100mb", LAYOUT),
    remembered("active-defrag-max-scan-fields", int(1, INT_MAX), "1000", LAYOUT),
    remembered("active-defrag-threshold-lower", int(0, 1_000), "10", LAYOUT),
    remembered("active-defrag-threshold-upper", int(0, 1_000), "100", LAYOUT),
    remembered("aof-load-truncated", YesNo, "yes", LOG),
    remembered("aof-rewrite-incremental-fsync", YesNo, "yes", LOG),
    remembered("aof-timestamp-enabled", YesNo, "no", LOG),
    remembered("rdb-save-incremental-fsync", YesNo, "yes", LOG),
    remembered(
        "shutdown-timeout",
        int(0, INT_MAX),
        "10",
        "A node that stops hands over what it leads first.",
    ),
    remembered("cluster-allow-reads-when-down", YesNo, "no", REPLICAS),
    remembered("cluster-allow-pubsubshard-when-down", YesNo, "yes", REPLICAS),
    remembered("cluster-announce-bus-port", int(0, 65_535), "0", ANNOUNCED),
    remembered("cluster-announce-hostname", Text, "", ANNOUNCED),
    remembered("cluster-announce-ip", Text, "", ANNOUNCED),
    remembered("cluster-announce-port", int(0, 65_535), "0", ANNOUNCED),
    remembered("cluster-announce-tls-port", int(0, 65_535), "0", ANNOUNCED),
    remembered("cluster-migration-barrier", int(0, INT_MAX), "1", REPLICAS),
    remembered("cluster-node-timeout", int(0, i64::MAX), "15000", REPLICAS),
    remembered("cluster-require-full-coverage", YesNo, "yes", REPLICAS),
    remembered(
        "propagation-error-behavior",
        Choice(&["ignore", "panic", "panic-on-replicas"]),
        "ignore",
        REPLICAS,
    ),
    remembered("masterauth", Text, "", NO_MASTER),
    remembered("masteruser", Text, "", NO_MASTER),
    remembered("repl-backlog-ttl", int(0, i64::MAX), "3600", REPLICAS),
    remembered("repl-disable-tcp-nodelay", YesNo, "no", REPLICAS),
    remembered("repl-diskless-load", Choice(&["disabled", "on-empty-db", "swapdb"]), "disabled", REPLICAS),
    remembered("replica-ignore-disk-write-errors", YesNo, "no", REPLICAS),
    remembered("replica-ignore-maxmemory", YesNo, "yes", REPLICAS),
    // Remembered: scripts.
    remembered("busy-reply-threshold", int(0, i64::MAX), "5000", "A script ends after a number of steps."),
    alias("lua-time-limit", "busy-reply-threshold"),
    remembered("set-disable-deny-scripts", YesNo, "no", "What scripts may not call they never may."),
];

const LAYOUT: &str = "The layout of values is fixed, since replicas must agree on it.";
const LAZY: &str = "Memory is freed as it suits the node.";
const LOG: &str = "The replicated log keeps every write; see durability.";
const ANNOUNCED: &str = "The host that others are told is that of advertise.";
const NO_MASTER: &str = "Nodes prove to one another that they know the password.";
const REPLICAS: &str = "Copies are kept by consensus, not by Redis's replication.";

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    effect: Effect,
    unit: &'static str,
    doc: &'static str,
) -> SettingSpec {
    SettingSpec::new(name, kind, default, effect, unit, doc)
}

const fn remembered(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> SettingSpec {
    SettingSpec::new(name, kind, default, Remembered, "", why)
}

const fn encoding(name: &'static str, kind: Kind, default: &'static str) -> SettingSpec {
    SettingSpec::new(
        name,
        kind,
        default,
        Reported,
        "",
        "The size up to which OBJECT ENCODING names a compact encoding.",
    )
}

const fn alias(name: &'static str, of: &'static str) -> SettingSpec {
    SettingSpec::new(name, Alias(of), "", Remembered, "", "An older name.")
}

const fn fact(name: &'static str, make: fn(&Settings) -> String, doc: &'static str) -> SettingSpec {
    SettingSpec::new(name, Derived(make), "", Fact, "", doc)
}

const fn int(min: i64, max: i64) -> Kind {
    Int { min, max }
}

const fn count() -> Kind {
    int(0, i64::MAX)
}

const fn bytes(min: u64, max: u64) -> Kind {
    Bytes { min, max }
}
