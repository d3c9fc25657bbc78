//! Probes: one question to one upstream, over a connection of its own.

use std::rc::Rc;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use skep_gate::config::pool::{Health, ProbeKind};
use skep_gate::{Input, PoolId, UpstreamId};
use tokio::task::spawn_local;

use crate::control::duration;
use crate::core::Core;
use crate::stream::Stream;
use crate::task::Owned;
use crate::upstream::{LocalExecutor, NoConnection, Upstream, connect};

/// What a probe's answer may be long.
const BODY_BYTES_MAX: usize = 64 << 10;
/// `grpc.health.v1.HealthCheckResponse` with `status = SERVING`: field 1, a number, 1.
const SERVING: &[u8] = &[0x08, 0x01];

/// Asks an upstream how it is, and tells the gate.
pub(crate) fn start(core: &Rc<Core>, pool: PoolId, upstream: UpstreamId, probe: u64) {
    let plan = core.plan();
    let Some(rule) = plan.snapshot.config.pools[pool.at()].it.health.clone() else { return };
    let asked = Rc::clone(plan.upstream(pool, upstream));
    let core = Rc::clone(core);
    spawn_local(async move {
        // The gate counts the time, too; this ends what nobody waits for any more.
        let asking = ask(&asked, &rule);
        let well = tokio::time::timeout(duration(rule.timeout), asking).await.unwrap_or(Some(false));
        // Places are of the configuration in force: after a change its own probes follow.
        let plan = core.plan();
        let same = plan.upstream_at(pool, upstream).is_some_and(|now| Rc::ptr_eq(now, &asked));
        if same {
            core.tell(match well {
                Some(well) => Input::Probed { pool, upstream, probe, well },
                None => Input::NotProbed { pool, upstream, probe },
            });
        }
    });
}

/// None if the process may open no connection for it.
async fn ask(upstream: &Upstream, rule: &Health) -> Option<bool> {
    let socket = match connect(&upstream.place(), upstream.tls.as_ref(), || {}).await {
        Ok(socket) => socket,
        Err(NoConnection::Full) => return None,
        Err(NoConnection::Fault(_)) => return Some(false),
    };
    Some(is_well(upstream, rule, socket).await)
}

async fn is_well(upstream: &Upstream, rule: &Health, socket: Stream) -> bool {
    match rule.kind {
        ProbeKind::Tcp => true,
        ProbeKind::Http => {
            let whom = upstream.authority(rule.host.as_deref());
            let request = Request::get(&rule.path.0).header("host", &whom.host);
            let request = request.header("connection", "close");
            let Ok(request) = request.header("user-agent", "skep-probe").body(Empty::<Bytes>::new()) else {
                return false;
            };
            let status = match upstream.is_http2() {
                true => {
                    let (mut parts, body) = request.into_parts();
                    parts.headers.clear();
                    let Ok(uri) = whom.uri(&rule.path.0).parse() else { return false };
                    (parts.uri, parts.version) = (uri, Version::HTTP_2);
                    let shaken = http2::handshake(LocalExecutor, TokioIo::new(socket)).await;
                    let Ok((mut sender, connection)) = shaken else { return false };
                    let _connection = Owned::spawn(async move { _ = connection.await });
                    sender.send_request(Request::from_parts(parts, body)).await.map(|r| r.status())
                }
                false => {
                    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(socket)).await else {
                        return false;
                    };
                    let _connection = Owned::spawn(async move { _ = connection.await });
                    sender.send_request(request).await.map(|r| r.status())
                }
            };
            status.is_ok_and(|status| is_expected(rule, status))
        }
        ProbeKind::Grpc => ask_grpc(upstream, rule, socket).await.unwrap_or(false),
    }
}

fn is_expected(rule: &Health, status: StatusCode) -> bool {
    match rule.expect.is_empty() {
        true => status.is_success(),
        false => rule.expect.contains(&status.as_u16()),
    }
}

/// The protocol of `grpc.health.v1.Health/Check`, for the server as a whole.
async fn ask_grpc(upstream: &Upstream, rule: &Health, socket: Stream) -> Option<bool> {
    let (mut sender, connection) = http2::handshake(LocalExecutor, TokioIo::new(socket)).await.ok()?;
    let _connection = Owned::spawn(async move { _ = connection.await });
    let whom = upstream.authority(rule.host.as_deref());
    let request = Request::post(whom.uri("/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // An empty message: not compressed, no bytes.
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .ok()?;
    let reply = sender.send_request(request).await.ok()?;
    let body = Limited::new(reply.into_body(), BODY_BYTES_MAX).collect().await.ok()?;
    let is_ok = body.trailers().and_then(|t| t.get("grpc-status")).is_some_and(|status| status == "0");
    Some(is_ok && body.to_bytes().get(5..) == Some(SERVING))
}
