//! The time of day as HTTP writes it (RFC 9110, section 6.6.1).

use std::cell::RefCell;
use std::time::SystemTime;

use http::HeaderValue;

thread_local! {
    static TEXT: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
}

/// What a reply says when it has no date of its own; worked out once a second.
pub(crate) fn date() -> HeaderValue {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    TEXT.with_borrow_mut(|(at, text)| {
        if *at != second {
            (*at, *text) = (second, None);
        }
        let write =
            || HeaderValue::from_str(&httpdate::fmt_http_date(now)).expect("a date is a header's value");
        text.get_or_insert_with(write).clone()
    })
}
