//! HTTP/1.1 on the wire, read strictly (RFC 9112): heads of requests and of replies, and the bodies behind them.
//!
//! Pure: takes bytes from the beginning of a buffer as they have come, and says whether more are needed. `fuzz/` holds each of
//! these beside `httparse` and hyper.
//!
//! Invariant (INV-GATE-17): what is taken has one framing, and not a byte behind it is taken.

pub mod body;
pub mod reply;
pub mod request;
pub mod websocket;
