//! One request to a node, for commands that a person waits for.

use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;

/// For everything. A node answers in a millisecond; a person does not wait much longer for one that hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// The status of thousands of nodes and shards.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Why there is no body. Nothing was changed by asking.
#[derive(Debug)]
pub enum FetchFault {
    /// Nobody listens there, or the address means nothing.
    Connect(io::Error),
    /// Who listens there said no, and why.
    Refused { code: u16, body: String },
    /// Who listens there does not answer as a node does.
    Broken(String),
    /// It takes too long.
    Late,
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchFault::Connect(error) => write!(f, "{error}"),
            FetchFault::Refused { code, body } => write!(f, "it answered {code}: {}", body.trim_end()),
            FetchFault::Broken(error) => write!(f, "it does not answer as skep does over HTTP: {error}"),
            FetchFault::Late => write!(f, "no answer within {} s", PATIENCE.as_secs()),
        }
    }
}

impl std::error::Error for FetchFault {}

/// `GET path` from the node whose HTTP address is `address`, `host:port`. Blocks for [`PATIENCE`] at most.
///
/// # Errors
/// [`FetchFault`].
pub fn fetch(address: &str, path: &str) -> Result<Bytes, FetchFault> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(FetchFault::Connect)?;
    let asked = async { tokio::time::timeout(PATIENCE, ask(address, path)).await };
    runtime.block_on(asked).unwrap_or(Err(FetchFault::Late))
}

async fn ask(address: &str, path: &str) -> Result<Bytes, FetchFault> {
    let broken = |error: &dyn fmt::Display| FetchFault::Broken(error.to_string());
    let stream = TcpStream::connect(address).await.map_err(FetchFault::Connect)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It ends with the runtime.
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let code = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| FetchFault::Broken(error.to_string()))?.to_bytes();
    match code.is_success() {
        true => Ok(body),
        false => Err(FetchFault::Refused {
            code: code.as_u16(),
            body: String::from_utf8_lossy(&body).into_owned(),
        }),
    }
}
