//! Questions to name servers and to the hosts of this machine, by `hickory-resolver`.
//!
//! What it remembers is switched off: how long an answer is used is decided by `skep_gate::resolve`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use skep_base::Micros;
use skep_gate::config::dns::{Dns, Family};
use skep_gate::resolve::{Answer, Heard};

use crate::tls::changed;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What this machine says itself: its name servers, and names without one.
const FILES: [&str; 2] = [RESOLV_CONF, "/etc/hosts"];
/// All servers and repetitions of one question together. Nobody waits for it but who has no address yet.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Who is asked.
pub(super) struct Asker {
    resolver: TokioResolver,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
    family: Family,
    /// When the files were changed that were read.
    files: [Option<SystemTime>; 2],
}

impl Asker {
    /// Reads the machine's files. One that cannot be read is as one that says nothing.
    ///
    /// # Errors
    /// What the resolver says against it.
    pub(super) fn new(rule: &Dns) -> Result<Asker, String> {
        // Before reading, so that a change in between is seen.
        let files = FILES.map(changed);
        let of_machine = std::fs::read(RESOLV_CONF).map_err(NetError::from).and_then(parse_resolv_conf);
        // Without any server a machine asks itself (resolv.conf(5)).
        let (config, mut options) = of_machine.unwrap_or_else(|_| {
            let itself = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            (ResolverConfig::from_parts(None, Vec::new(), vec![itself]), ResolverOpts::default())
        });
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let (ndots, search) = (options.ndots, config.search().to_vec());
        let servers = match rule.servers.is_empty() {
            true => config.name_servers().to_vec(),
            false => rule.servers.iter().map(|server| at(server.place())).collect(),
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|e| e.to_string())?;
        let hosts = Hosts::from_system().unwrap_or_default();
        Ok(Asker { resolver, hosts, search, ndots, family: rule.family, files })
    }

    /// True if the machine's files are others than those that were read.
    pub(super) fn is_outdated(&self) -> bool {
        self.files != FILES.map(changed)
    }

    /// Asks for the addresses of a name.
    pub(super) async fn ask(&self, name: &str) -> Answer {
        let silence = Answer { v4: Heard::Silence, v6: Heard::Silence, ttl: Micros(0) };
        tokio::time::timeout(TIME_MAX, self.ask_in_turn(name)).await.unwrap_or(silence)
    }

    /// Asks for the name as it is and with each search domain, in the order that resolv.conf(5) tells, until one has an
    /// address. Both families are asked for by one name, since another may be another machine's.
    async fn ask_in_turn(&self, name: &str) -> Answer {
        let nothing = Answer { v4: Heard::Nothing, v6: Heard::Nothing, ttl: Micros(0) };
        let Ok(mut bare) = Name::from_ascii(name) else { return nothing };
        bare.set_fqdn(true);
        if let Some(found) = self.of_hosts(&bare) {
            return found;
        }
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let found =
            self.search.iter().filter_map(|domain| Name::from_ascii(name).ok()?.append_domain(domain).ok());
        let mut candidates: Vec<Name> = found.collect();
        candidates.insert(if dots >= self.ndots { 0 } else { candidates.len() }, bare);
        let mut last = nothing;
        for candidate in candidates {
            last = self.ask_for(&candidate).await;
            // Who says nothing may know an address of this very name.
            if last.v4 != Heard::Nothing || last.v6 != Heard::Nothing {
                break;
            }
        }
        last
    }

    fn of_hosts(&self, name: &Name) -> Option<Answer> {
        let find = |kind| {
            let found = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
            found.map(|found| heard(Ok(found)))
        };
        let v4 = find(RecordType::A).filter(|_| self.family != Family::Ipv6);
        let v6 = find(RecordType::AAAA).filter(|_| self.family != Family::Ipv4);
        (v4.is_some() || v6.is_some()).then(|| both(v4, v6))
    }

    async fn ask_for(&self, name: &Name) -> Answer {
        let v4 = async {
            match self.family {
                Family::Ipv6 => None,
                _ => Some(heard(self.resolver.lookup(name.clone(), RecordType::A).await)),
            }
        };
        let v6 = async {
            match self.family {
                Family::Ipv4 => None,
                _ => Some(heard(self.resolver.lookup(name.clone(), RecordType::AAAA).await)),
            }
        };
        let (v4, v6) = tokio::join!(v4, v6);
        both(v4, v6)
    }
}

fn at(place: std::net::SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(place.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = place.port());
    server
}

/// What was heard of one family, and for how long it holds.
fn heard(result: Result<Lookup, NetError>) -> (Heard, Option<Duration>) {
    match result {
        Ok(lookup) => {
            let found: Vec<IpAddr> =
                lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
            let left = lookup.valid_until().saturating_duration_since(Instant::now());
            if found.is_empty() { (Heard::Nothing, None) } else { (Heard::Found(found), Some(left)) }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            (Heard::Nothing, None)
        }
        Err(why) => {
            tracing::debug!("gateway: a name server did not answer: {why}");
            (Heard::Silence, None)
        }
    }
}

fn both(v4: Option<(Heard, Option<Duration>)>, v6: Option<(Heard, Option<Duration>)>) -> Answer {
    let not_asked = (Heard::Nothing, None);
    let ((v4, holds_v4), (v6, holds_v6)) = (v4.unwrap_or(not_asked.clone()), v6.unwrap_or(not_asked));
    let ttl = [holds_v4, holds_v6].into_iter().flatten().min().unwrap_or_default();
    Answer { v4, v6, ttl: Micros(ttl.as_micros() as u64) }
}
