//! What the gateway answers by itself: its words, and their form for clients of HTTP and of gRPC.

use http::Response;
use http::header::LOCATION;
use skep_gate::Why;
use skep_gate::resilience::retry::Failure;

use super::{REQUEST_ID, set, status_code};
use crate::in_flight::{InFlight, Record};
use crate::reply::Reply;

pub(super) const CHANGED: &str = "the configuration changed while the request came";

/// What the client is told when the gate answers.
pub(super) fn said(why: Why) -> &'static str {
    match why {
        Why::Changed => CHANGED,
        Why::NoUpstream => "no upstream can take the request",
        Why::BreakerOpen => "the route's breaker is open",
        Why::QueueFull => "too many requests wait",
        Why::QueueLate => "the request waited for too long",
        Why::Deadline => "the time for the request is over",
        Why::BodyLate => "the body did not come in time",
        Why::Failed(failure, _) => match failure {
            Failure::NotSent => "no connection to an upstream",
            Failure::NotTaken => "the upstream announces no WebSockets over HTTP/2",
            Failure::Timeout => "the upstream did not answer in time",
            Failure::Status { .. } => "the upstream answered so, and no other could be asked",
            _ => "the upstream broke the connection off",
        },
    }
}

/// The gateway's own answers to one request.
pub(super) struct Own {
    pub(super) id: String,
    pub(super) is_grpc: bool,
    pub(super) record: Record,
}

impl Own {
    pub(super) fn take_record(&mut self) -> Record {
        // The request's own record goes on with it; nothing is counted twice, for a silent one is left behind.
        std::mem::replace(&mut self.record, Record::silent())
    }

    /// Takes the record back, where no upstream's reply goes on with it.
    pub(super) fn reclaim(&mut self, in_flight: &mut InFlight) {
        self.record = std::mem::replace(&mut in_flight.record, Record::silent());
    }

    /// A short text; for gRPC a status of its own, which clients of gRPC show rather than that of HTTP.
    pub(super) fn answer(&mut self, status: u16, what: &str) -> Response<Reply> {
        self.record.status = status;
        let mut response = match self.is_grpc {
            true => Response::new(Reply::whole("")),
            false => Response::new(Reply::whole(format!("{status} {what}\n"))),
        };
        let headers = response.headers_mut();
        set(headers, REQUEST_ID, &self.id);
        if self.is_grpc {
            set(headers, "content-type", "application/grpc");
            set(headers, "grpc-status", &grpc_status(status).to_string());
            set(headers, "grpc-message", what);
        } else {
            set(headers, "content-type", "text/plain; charset=utf-8");
            *response.status_mut() = status_code(status);
        }
        response
    }

    pub(super) fn redirect(&mut self, status: u16, location: &str) -> Response<Reply> {
        self.record.status = status;
        let mut response = Response::new(Reply::whole(""));
        *response.status_mut() = status_code(status);
        set(response.headers_mut(), LOCATION.as_str(), location);
        response
    }
}

/// gRPC's codes for what gateways answer (gRPC, "HTTP to gRPC Status Code Mapping").
fn grpc_status(status: u16) -> u8 {
    match status {
        400 | 413 => 13,
        401 => 16,
        403 => 7,
        409 => 10,
        422 => 3,
        404 => 12,
        429 | 502 | 503 => 14,
        408 | 504 => 4,
        _ => 2,
    }
}
