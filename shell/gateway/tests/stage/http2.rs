//! An upstream of HTTP/2, frame by frame.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::net::TcpListener;

/// Gives each request to `answer`, in its connection's task.
pub async fn upstream(
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) + Copy + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, reply))) = connection.accept().await {
                    answer(request, reply);
                }
            });
        }
    });
    address
}
