//! A configuration made ready for use: routes compiled, certificates read. Shared by all cores and never changed.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use skep_gate::Config;
use skep_gate::balance::sticky::Secret;
use skep_gate::config::listener::Protocol;
use skep_gate::config::pool::UpstreamProtocol;
use skep_gate::protect::nets::Nets;
use skep_gate::router::Router;

use crate::Applied;
use crate::auth::{AuthPlan, Sources};
use crate::tls::{self, ListenerTls};
use crate::upstream::UpstreamTls;

/// What is in force.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) config: Arc<Config>,
    /// What the cluster signs with.
    pub(crate) secret: Option<Secret>,
    pub(crate) router: Router,
    pub(crate) trusted: Nets,
    /// Whether any route asks who may pass; if none does, nobody is asked.
    pub(crate) has_rules: bool,
    /// Who may call; none if no route could ask.
    pub(crate) auth: Option<AuthPlan>,
    /// By listener.
    pub(crate) listener_tls: Vec<Option<Arc<ListenerTls>>>,
    /// By pool.
    pub(crate) upstream_tls: Vec<Option<UpstreamTls>>,
}

impl Snapshot {
    /// Compiles a configuration, reading the files that it names and following its URLs.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub(crate) fn compile(applied: &Applied, sources: &mut Sources) -> Result<Snapshot, String> {
        let config = Arc::clone(&applied.config);
        let mut listener_tls = Vec::new();
        for listener in &config.listeners {
            let is_http = listener.it.protocol == Protocol::Http;
            let read = |tls| tls::listener(tls, is_http).map(Arc::new);
            let tls = listener.it.tls.as_ref().map(read).transpose();
            listener_tls.push(tls.map_err(|what| format!("gateway.listener.{}.tls: {what}", listener.name))?);
        }
        let mut upstream_tls = Vec::new();
        for pool in &config.pools {
            let http2 = pool.it.protocol == UpstreamProtocol::Http2;
            let made = pool.it.tls_name.as_ref().map(|name| upstream(name, http2)).transpose();
            upstream_tls.push(made.map_err(|what| format!("gateway.pool.{}.tls-name: {what}", pool.name))?);
        }
        let auth = AuthPlan::compile(&config, sources)?;
        Ok(Snapshot {
            auth,
            version: applied.version,
            secret: applied.secret.clone(),
            router: Router::new(&config)?,
            trusted: Nets::new(&config.trusted_proxies),
            has_rules: config.routes.iter().any(|route| {
                let route = &route.it;
                !(route.limits.is_empty() && route.allow.is_empty() && route.deny.is_empty())
            }),
            listener_tls,
            upstream_tls,
            config,
        })
    }
}

impl Snapshot {
    /// True if a file that it names is another than the one that was read.
    pub(crate) fn is_outdated(&self) -> bool {
        let tls = self.listener_tls.iter().flatten().any(|tls| tls.is_outdated());
        tls || self.auth.as_ref().is_some_and(AuthPlan::is_outdated)
    }
}

fn upstream(name: &str, http2: bool) -> Result<UpstreamTls, String> {
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is no name of a server"))?;
    Ok(UpstreamTls { config: tls::client(http2)?, name })
}
