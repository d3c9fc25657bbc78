//! The PROXY header that a trusted proxy sends before anything else.

use std::io;
use std::time::Duration;

use skep_gate::layer4::proxy_header::{Ends, Found, HEADER_BYTES_MAX, read as parse};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;

/// How long a part of a header may wait for the rest before it is looked at again.
const AGAIN_TIME: Duration = Duration::from_millis(2);

/// Reads the header, and not a byte more: what follows may be TLS.
///
/// # Errors
/// There is none, or the connection broke.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Option<Ends>> {
    let mut seen = vec![0; HEADER_BYTES_MAX];
    let mut before = 0;
    loop {
        stream.ready(Interest::READABLE).await?;
        let n = stream.peek(&mut seen).await?;
        match parse(&seen[..n]) {
            Found::Header { len, ends } => {
                stream.read_exact(&mut seen[..len]).await?;
                return Ok(ends);
            }
            Found::Bad => return Err(io::Error::other("there is no PROXY header")),
            Found::NeedMore if n == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            // What was peeked at keeps the socket readable, so there is no event for the rest.
            Found::NeedMore => {
                if n == before {
                    tokio::time::sleep(AGAIN_TIME).await;
                }
                before = n;
            }
        }
    }
}
