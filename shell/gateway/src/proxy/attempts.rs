//! The attempts of one request: the gate says when one begins and ends, this carries them out.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use http::header::RETRY_AFTER;
use skep_base::Micros;
use skep_gate::protect::trailers::Trailers;
use skep_gate::resilience::retry::Failure;
use skep_gate::{Input, RequestId, Why};

use super::template::Template;
use crate::control::duration;
use crate::core::Core;
use crate::figures::count;
use crate::in_flight::InFlight;
use crate::mailbox::Command;
use crate::progress::Progress;
use crate::source::{Source, SourceFault};
use crate::upstream::{Arriving, Asking, SendFault, Upstream, waiting};

/// Connections that turn out to be closed before a byte was written, before a new one is made.
const STALE_MAX: usize = 3;

/// A reply that goes to the client.
pub(super) struct Found {
    pub(super) response: Response<Arriving>,
    pub(super) upstream: Rc<Upstream>,
    /// The request may have run.
    pub(super) ran: bool,
    pub(super) stick_to: Option<u64>,
    pub(super) idle: Duration,
    /// Which trailers of it the client gets; none if it takes none.
    pub(super) trailers: Option<Trailers>,
}

/// What came of a request at the gate.
pub(super) type Outcome = Result<Box<Found>, NoReply>;

/// Why no upstream's reply goes to the client.
pub(super) enum NoReply {
    Answer {
        why: Why,
        /// The request may have run.
        ran: bool,
        retry_after: Option<Micros>,
    },
    /// The client's body failed.
    ClientFault(SourceFault),
}

type Attempt = Pin<Box<dyn Future<Output = Result<Response<Arriving>, Ended>>>>;

struct Running {
    begun: Begun,
    future: Attempt,
}

/// What the gate has said of an attempt.
struct Begun {
    number: u32,
    upstream: Rc<Upstream>,
    /// By when the request is to have its answer.
    deadline: Micros,
    stall: Option<Duration>,
    /// Connections that it was asked over before, and that did not touch it.
    before: usize,
}

/// How an attempt ended without a reply.
enum Ended {
    Failed(Failure),
    /// The upstream ended the connection, and did not touch the request.
    Leaving,
}

struct Held {
    number: u32,
    upstream: Rc<Upstream>,
    response: Response<Arriving>,
}

/// Does what the gate says about a request that has arrived there, until it is answered.
pub(super) async fn carry(in_flight: &mut InFlight, template: &Template, source: &Rc<Source>) -> Outcome {
    let mut attempts =
        Attempts { template, source, running: Vec::with_capacity(1), held: Vec::with_capacity(1) };
    poll_fn(|cx| attempts.poll(cx, in_flight)).await
}

struct Attempts<'a> {
    template: &'a Template,
    source: &'a Rc<Source>,
    running: Vec<Running>,
    held: Vec<Held>,
}

impl Attempts<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, in_flight: &mut InFlight) -> Poll<Outcome> {
        let core = Rc::clone(&in_flight.core);
        loop {
            while let Poll::Ready(command) = in_flight.mailbox.poll(cx) {
                if let Some(outcome) = self.obey(command, in_flight, &core) {
                    return Poll::Ready(outcome);
                }
            }
            let ended = self.running.iter_mut().enumerate().find_map(|(at, running)| {
                match running.future.as_mut().poll(cx) {
                    Poll::Ready(result) => Some((at, result)),
                    Poll::Pending => None,
                }
            });
            let Some((at, result)) = ended else { return Poll::Pending };
            let begun = self.running.remove(at).begun;
            let request = in_flight.id;
            let result = match result {
                // As with a connection that rested and was closed, nothing has happened that the gate must know.
                Err(Ended::Leaving)
                    if begun.before < STALE_MAX && self.source.is_kept() && self.source.fault().is_none() =>
                {
                    let begun = Begun { before: begun.before + 1, ..begun };
                    self.begin(begun, request, &core);
                    continue;
                }
                Err(Ended::Leaving) => Err(Failure::NotSent),
                Err(Ended::Failed(failure)) => Err(failure),
                Ok(response) => Ok(response),
            };
            let Begun { number, upstream, .. } = begun;
            match result {
                Ok(response) => {
                    let status = response.status().as_u16();
                    if status >= 500 {
                        count(&upstream.figures.errors);
                    }
                    let retry_after = retry_after(&response);
                    self.held.push(Held { number, upstream, response });
                    core.tell(Input::Replied { request, attempt: number, status, retry_after });
                }
                Err(failure) => {
                    if let Some(fault) = self.source.fault() {
                        return Poll::Ready(Err(NoReply::ClientFault(fault)));
                    }
                    if failure != Failure::NotTaken {
                        count(&upstream.figures.failures);
                    }
                    core.tell(Input::Failed { request, attempt: number, failure });
                }
            }
        }
    }

    fn begin(&mut self, begun: Begun, request: RequestId, core: &Rc<Core>) {
        let left = begun.deadline.since(core.now());
        let asking = self.template.asking(&begun.upstream, begun.number, left, self.source);
        let (id, upstream) = ((request, begun.number), Rc::clone(&begun.upstream));
        let future = Box::pin(run(Rc::clone(core), id, upstream, asking, begun.stall, begun.before));
        self.running.push(Running { begun, future });
    }

    fn obey(&mut self, command: Command, in_flight: &mut InFlight, core: &Rc<Core>) -> Option<Outcome> {
        match command {
            Command::Try { attempt, upstream, deadline, stall } => {
                count(&upstream.figures.attempts);
                in_flight.record.note(|line| line.attempts = attempt);
                // A request without a body is sent when its head is.
                let stall = (!self.source.is_empty()).then(|| duration(stall));
                self.begin(
                    Begun { number: attempt, upstream, deadline, stall, before: 0 },
                    in_flight.id,
                    core,
                );
                None
            }
            Command::Abandon { attempt } => {
                self.running.retain(|running| running.begun.number != attempt);
                self.held.retain(|held| held.number != attempt);
                None
            }
            Command::Forward { attempt, ran, stick_to, idle } => {
                let at = self.held.iter().position(|held| held.number == attempt);
                let held = self.held.remove(at.expect("the gate forwards a reply that it was told of"));
                in_flight.set_attempt(attempt);
                in_flight.record.note(|line| line.upstream.clone_from(&held.upstream.key.address));
                let Held { response, upstream, .. } = held;
                let idle = duration(idle);
                let trailers = self.template.reply_trailers.clone();
                Some(Ok(Box::new(Found { response, upstream, ran, stick_to, idle, trailers })))
            }
            Command::Answer { why, ran, retry_after } => Some(Err(NoReply::Answer { why, ran, retry_after })),
        }
    }
}

/// Tells the gate when the body is sent; ends if the upstream reads nothing of it for `stall`.
async fn watch(core: &Rc<Core>, (request, attempt): (RequestId, u32), progress: &Progress, stall: Duration) {
    tokio::select! {
        biased;
        () = progress.sent() => {
            core.tell(Input::Sent { request, attempt });
            std::future::pending().await
        }
        () = progress.stalled(stall) => {}
    }
}

async fn run(
    core: Rc<Core>,
    (id, attempt): (RequestId, u32),
    upstream: Rc<Upstream>,
    mut asking: Asking,
    stall: Option<Duration>,
    before: usize,
) -> Result<Response<Arriving>, Ended> {
    let mut stale = before;
    loop {
        let taken = match upstream.take_now() {
            Some(lease) => Ok(lease),
            // On the heap, as what few requests need.
            None => Box::pin(upstream.take(|waits| core.tell(waiting(id, attempt, waits)))).await,
        };
        let lease = taken.map_err(|error| {
            tracing::debug!(%error, upstream = upstream.key.address, "gateway: no connection");
            Ended::Failed(Failure::NotSent)
        })?;
        if stale == 0 {
            core.tell(Input::Connected { request: id, attempt });
        }
        let is_used = lease.is_used;
        let sent = match stall {
            None => lease.send(asking).await,
            Some(stall) => {
                let progress = asking.progress();
                progress.has_moved();
                tokio::select! {
                    biased;
                    sent = lease.send(asking) => sent,
                    () = watch(&core, (id, attempt), &progress, stall) => return Err(Ended::Failed(Failure::Timeout)),
                }
            }
        };
        match sent {
            Ok(response) => return Ok(response),
            Err(SendFault::NotSent(Some(again))) if is_used && stale < STALE_MAX => {
                // The upstream closed a connection that rested; nothing of the request was written.
                stale += 1;
                asking = again;
            }
            Err(SendFault::NotSent(_)) => return Err(Ended::Failed(Failure::NotSent)),
            Err(SendFault::NotTaken) => return Err(Ended::Failed(Failure::NotTaken)),
            Err(SendFault::Leaving) => return Err(Ended::Leaving),
            Err(SendFault::Reset) => return Err(Ended::Failed(Failure::Reset)),
        }
    }
}

/// `Retry-After` in seconds; a date is not read.
fn retry_after(response: &Response<Arriving>) -> Option<Micros> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let good = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| good).map(Micros::from_secs)
}
