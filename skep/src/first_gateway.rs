//! `[gateway]` of a node's own file: the first version, if the cluster has none.
//!
//! All nodes work by one configuration, so a file is not a second place for it: it begins a cluster's, and from then on
//! `skep apply` changes it. Where the two differ the log says so.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use skep_gate::Config;
use skep_resp::Value;
use skep_server::Inside;

/// Between two attempts while the node is not ready, or its cluster has no leader.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Offers `config` to the cluster as its first, on a thread of its own that ends when it is known what became of it.
///
/// # Errors
/// The system gives no thread.
pub fn offer(config: Arc<Config>, node: String, inside: Inside) -> io::Result<()> {
    let offer = move || {
        let (text, what) = (config.text(), format!("the file of {node}"));
        loop {
            match try_once(&inside, &config, &text, &what) {
                Some(true) => return,
                Some(false) => thread::sleep(TRY_AGAIN),
                None => return,
            }
        }
    };
    thread::Builder::new().name("gateway-first".to_owned()).spawn(offer).map(drop)
}

/// True when there is nothing more to do; `None` when the node is gone.
fn try_once(inside: &Inside, config: &Config, text: &str, what: &str) -> Option<bool> {
    let reply = call(inside, &["SKEP", "GATEWAY", "GET"])?;
    let told = match &reply {
        Value::Map(pairs) => pairs.iter().find(|(name, _)| name.as_bytes() == Some(b"text")),
        _ => None,
    };
    if let Some((_, text)) = told {
        let known = String::from_utf8_lossy(text.as_bytes().unwrap_or_default());
        if Config::parse(&known).as_ref() != Ok(config) {
            tracing::warn!(
                "the [gateway] of this node's file is not what the cluster works by, and has no effect; put it in force with \
                 `skep apply`, or take it out of the file"
            );
        }
        return Some(true);
    }
    if !reply.as_error().is_some_and(|error| error.starts_with(b"ERR the gateway has no configuration")) {
        return Some(false);
    }
    let reply = call(inside, &["SKEP", "GATEWAY", "SET", "0", what, text])?;
    match reply.as_error().map(String::from_utf8_lossy) {
        // It will not be taken next time either.
        Some(error) if error.starts_with("ERR ") && !error.contains("is at version") => {
            tracing::warn!("the [gateway] of this node's file has no effect: {error}");
            Some(true)
        }
        // The next look shows what the cluster has.
        _ => Some(false),
    }
}

/// `None` when the node is gone.
fn call(inside: &Inside, words: &[&str]) -> Option<Value> {
    let (sender, receiver) = mpsc::channel();
    let words = words.iter().map(|word| word.as_bytes());
    if let Err(busy) = inside.call(words, move |reply| drop(sender.send(reply))) {
        return Some(Value::Error(format!("TRYAGAIN {busy}").into_bytes()));
    }
    let reply = receiver.recv().ok()?;
    Value::parse(&reply).ok().flatten().map(|(value, _)| value)
}
