//! What follows an upgrade: bytes in both directions, until one side ends or both are silent.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use skep_gate::Input;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;
use crate::copy::copy_both;
use crate::proxy::Tunnel;
use crate::stream::Rewound;

/// Carries an upgraded connection to its end, and tells the gate.
pub(super) async fn carry(wire: &Rc<RefCell<Wire>>, tunnel: Tunnel) {
    let Tunnel { upstream, mut in_flight, idle } = tunnel;
    let first = std::mem::take(&mut wire.borrow_mut().input);
    let client = Rewound::new(first, Borrowed(Rc::clone(wire)));
    let (_, sent) = copy_both(client, upstream, idle).await;
    in_flight.record.bytes_sent = sent;
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
