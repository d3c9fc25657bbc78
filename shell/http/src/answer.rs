//! Which request gets which answer. No sockets here.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use crate::{NodeStatus, metrics};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Serialize)]
struct Error {
    error: String,
}

/// Answers `method path`. `status` is asked only if the answer needs it, so that `/healthz` depends on nothing.
pub(crate) fn answer<S: AsRef<NodeStatus>>(
    method: &Method,
    path: &str,
    status: impl FnOnce() -> S,
) -> Response<Full<Bytes>> {
    if !matches!(path, "/healthz" | "/readyz" | "/metrics" | "/api/v1/cluster") {
        return error(StatusCode::NOT_FOUND, "no such path".to_owned());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response =
            error(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed here, only GET and HEAD"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => response(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match &status().as_ref().ready {
            Ok(()) => response(StatusCode::OK, TEXT, "ready\n"),
            Err(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        "/metrics" => {
            response(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&status().as_ref().metrics))
        }
        _ => json(StatusCode::OK, &status().as_ref().cluster),
    }
}

fn error(code: StatusCode, error: String) -> Response<Full<Bytes>> {
    json(code, &Error { error })
}

fn json(code: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut text =
        serde_json::to_vec(body).expect("our structs have text keys and nothing that cannot be written");
    text.push(b'\n');
    response(code, JSON, text)
}

fn response(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Every answer is about this moment.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
