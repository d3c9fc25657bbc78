//! What follows an upgrade: bytes in both directions, until one side ends or both are silent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use skep_gate::Input;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;
use crate::copy::copy_both;
use crate::proxy::Tunnel;
use crate::stream::Rewound;

/// How long the upstream may take to hand its side over.
const HAND_OVER_TIME: Duration = Duration::from_secs(10);

/// Carries an upgraded connection to its end, and tells the gate.
pub(super) async fn carry(wire: &Rc<RefCell<Wire>>, tunnel: Tunnel) {
    let Tunnel { upgrade, mut in_flight, idle } = tunnel;
    let first = std::mem::take(&mut wire.borrow_mut().input);
    if let Ok(Ok(upstream)) = tokio::time::timeout(HAND_OVER_TIME, upgrade).await {
        let client = Borrowed(Rc::clone(wire));
        let client = Rewound { first, stream: client };
        let (_, sent) = copy_both(client, TokioIo::new(upstream), idle).await;
        in_flight.record.bytes_sent = sent;
    }
    in_flight.end(|request| Input::Done { request });
}

/// The client's stream, which stays where it is.
struct Borrowed(Rc<RefCell<Wire>>);

impl AsyncRead for Borrowed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Borrowed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_shutdown(cx)
    }
}
