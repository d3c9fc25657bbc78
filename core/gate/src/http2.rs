//! What a server of HTTP/2 says of itself first: whether it opens WebSockets, and how many requests it takes at once.
//!
//! The library that speaks HTTP/2 does not tell who sends a request. But a request may only ask for what was announced (RFC
//! 8441, section 3), and a server that has not spoken yet is another than one that announces nothing.
//!
//! Invariant: what is found does not depend on how the bytes are cut, and nothing behind the first frame is looked at.

use skep_base::Micros;

/// A frame's length in three bytes, type, flags and stream (RFC 9113, section 4.1).
const FRAME_HEAD_BYTES: usize = 9;
/// What a client says first (section 3.4).
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// A name in two bytes and a value in four (section 6.5.1).
const SETTING_BYTES: usize = 6;
/// Requests of one connection at once, as many as every server should allow (RFC 9113, section 6.5.2).
pub const REQUESTS_MAX: u32 = 100;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// RFC 9113, section 7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
/// Who waits for less may just be in a hurry; a lone request that its server thinks about for longer costs another connection.
const SILENCE: Micros = Micros::from_secs(1);
/// What a server may take to answer a PING.
pub const ANSWER: Micros = Micros::from_secs(20);
/// RFC 9113, section 6.5.2.
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// RFC 8441, section 9.1.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What there is to know of a server.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Announcement {
    /// It takes the extended CONNECT.
    pub connect: bool,
    /// Requests at once over one connection, if it says.
    pub streams: Option<u32>,
}

/// Follows the frames of a client, to tell since when a block of headers is on its way. Cost: a few comparisons for each frame.
#[derive(Clone, Debug)]
pub struct Headings {
    /// Bytes of the client's preface that are to come.
    preface: usize,
    head: [u8; FRAME_HEAD_BYTES],
    head_len: usize,
    /// Bytes of the frame that are to come.
    left: usize,
    /// The frame ends a block, or goes on with it.
    is_last: bool,
    since: Option<Micros>,
}

impl Default for Headings {
    fn default() -> Headings {
        let head = [0; FRAME_HEAD_BYTES];
        Headings { preface: PREFACE_BYTES, head, head_len: 0, left: 0, is_last: false, since: None }
    }
}

impl Headings {
    /// Takes in what has come at `now`.
    pub fn read(&mut self, now: Micros, mut bytes: &[u8]) {
        loop {
            let skipped = if self.preface > 0 { &mut self.preface } else { &mut self.left };
            let skip = (*skipped).min(bytes.len());
            *skipped -= skip;
            bytes = &bytes[skip..];
            if self.left == 0 && self.is_last {
                (self.is_last, self.since) = (false, None);
            }
            if bytes.is_empty() {
                return;
            }
            let take = (FRAME_HEAD_BYTES - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + take].copy_from_slice(&bytes[..take]);
            self.head_len += take;
            bytes = &bytes[take..];
            if self.head_len < FRAME_HEAD_BYTES {
                return;
            }
            self.head_len = 0;
            let [a, b, c, kind, flags, ..] = self.head;
            self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            if matches!(kind, HEADERS | CONTINUATION) {
                self.since = self.since.or(Some(now));
                self.is_last = flags & END_HEADERS != 0;
            }
        }
    }

    /// Since when a block of headers has been incomplete.
    pub fn since(&self) -> Option<Micros> {
        self.since
    }
}

/// How many requests go over one connection at once, to a server that has announced `found`. One before it has spoken. One to who
/// allows none: it is asked all the same, and left by time limits.
pub fn requests_at_once(found: Option<Announcement>) -> u32 {
    found.map_or(1, |found| found.streams.unwrap_or(REQUESTS_MAX).clamp(1, REQUESTS_MAX))
}

/// What became of a request whose stream ended without a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// The server says that it did not touch it (RFC 9113, section 8.7).
    Refused,
    /// Its connection takes no more requests, and did not touch this one: another connection to the same server may.
    Leaving,
    MayHaveRun,
}

/// By the code of its end, and whether that was a GOAWAY of the server, which ends only streams that are above its last one; and whether
/// anything at all was written to the connection since the request was begun.
pub fn unanswered(code: Option<u32>, by_goaway: bool, is_written: bool) -> Unanswered {
    match code {
        Some(REFUSED_STREAM) => Unanswered::Refused,
        Some(NO_ERROR) if by_goaway => Unanswered::Leaving,
        // Its connection broke. What was reset, by either side, says nothing of that.
        None if !is_written => Unanswered::Leaving,
        _ => Unanswered::MayHaveRun,
    }
}

/// Finds out whether the other side of a connection is there that says nothing while requests are under way. Looked at when it was told
/// to last.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    interval: Micros,
    patience: Micros,
    heard: u64,
    asked: bool,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    Nothing,
    /// A PING (RFC 9113, section 6.7).
    Ask,
    /// Nobody is there.
    GiveUp,
}

impl KeepAlive {
    /// For a connection that is to be asked after `interval` of silence, twice that at most, and has `patience` to say anything at all.
    pub fn new(interval: Micros, patience: Micros) -> KeepAlive {
        KeepAlive { interval, patience, heard: 0, asked: false }
    }

    /// Over the connection so many bytes were `heard` by now, and requests are under way or not, `is_used`. What to do, and when to look
    /// again.
    pub fn look(&mut self, is_used: bool, heard: u64) -> (Care, Micros) {
        let is_silent = std::mem::replace(&mut self.heard, heard) == heard;
        let was_asked = std::mem::replace(&mut self.asked, is_silent && is_used);
        match (self.asked, was_asked) {
            (true, true) => (Care::GiveUp, self.patience),
            (true, false) => (Care::Ask, self.patience),
            (false, _) => (Care::Nothing, self.interval),
        }
    }
}

/// Whether a connection is to get no new requests, after one was given up that had waited so long for its reply: if nothing at
/// all was `heard` over it meanwhile.
pub fn is_silent(waited: Micros, heard: bool) -> bool {
    !heard && waited >= SILENCE
}

/// Reads the settings by which a server begins (RFC 9113, section 3.4).
#[derive(Debug, Default)]
pub struct Preface {
    part: [u8; FRAME_HEAD_BYTES],
    part_len: usize,
    /// Bytes of settings that are left; none before their head.
    left: Option<usize>,
    found: Announcement,
}

impl Preface {
    /// What the server announces, once that is known from what it said before and `bytes`. It is not to be asked again then. Who
    /// begins otherwise announces nothing.
    pub fn read(&mut self, mut bytes: &[u8]) -> Option<Announcement> {
        loop {
            let want = match self.left {
                None => FRAME_HEAD_BYTES,
                Some(0) => return Some(self.found),
                Some(_) => SETTING_BYTES,
            };
            let take = (want - self.part_len).min(bytes.len());
            self.part[self.part_len..self.part_len + take].copy_from_slice(&bytes[..take]);
            self.part_len += take;
            bytes = &bytes[take..];
            if self.part_len < want {
                return None;
            }
            self.part_len = 0;
            match self.left {
                None => match settings_len(self.part) {
                    Some(len) => self.left = Some(len),
                    None => return Some(Announcement::default()),
                },
                Some(left) => {
                    let [a, b, c, d, e, f, ..] = self.part;
                    let value = u32::from_be_bytes([c, d, e, f]);
                    match u16::from_be_bytes([a, b]) {
                        MAX_CONCURRENT_STREAMS => self.found.streams = Some(value),
                        ENABLE_CONNECT_PROTOCOL => self.found.connect = value == 1,
                        _ => {}
                    }
                    self.left = Some(left - SETTING_BYTES);
                }
            }
        }
    }
}

/// How long the settings behind this head are; none if it is that of something else.
fn settings_len([a, b, c, kind, flags, stream @ ..]: [u8; FRAME_HEAD_BYTES]) -> Option<usize> {
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    let is_settings = kind == SETTINGS && flags & ACK == 0 && stream == [0; 4];
    (is_settings && len.is_multiple_of(SETTING_BYTES)).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn as_many_requests_share_a_connection_as_its_server_allows() {
        assert_eq!(requests_at_once(None), 1, "it has not spoken");
        for (streams, expected) in
            [(None, 100), (Some(0), 1), (Some(1), 1), (Some(7), 7), (Some(100), 100), (Some(u32::MAX), 100)]
        {
            let found = Announcement { connect: false, streams };
            assert_eq!(requests_at_once(Some(found)), expected, "{streams:?}");
        }
    }

    #[test]
    fn a_block_of_headers_is_on_its_way_from_its_first_frame_to_the_end_of_its_last() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let begun = frame(1, 0, 1, &[1; 5]);
        // What comes, and how much of it there is while a block is incomplete.
        for (frames, from, to) in [
            (vec![frame(4, 0, 0, &[0; 6])], 0, 0),
            // END_HEADERS, with and without END_STREAM.
            (vec![frame(1, 4, 1, &[1; 5])], 9, 14),
            (vec![frame(4, 0, 0, &[]), frame(1, 5, 1, &[1; 5]), frame(0, 1, 1, &[9; 50])], 18, 23),
            (vec![begun.clone(), frame(9, 0, 1, &[1; 3]), frame(9, 4, 1, &[1; 2])], 9, 37),
            (vec![begun.clone(), frame(9, 4, 1, &[])], 9, 23),
            // Data that looks like a frame is none.
            (vec![frame(0, 0, 1, &begun)], 0, 0),
        ] {
            let all = [preface.clone(), frames.concat()].concat();
            for piece in [1, 2, 3, 7, 1_000] {
                let mut headings = Headings::default();
                for (n, bytes) in all.chunks(piece).enumerate() {
                    headings.read(Micros(n as u64), bytes);
                    let came = (n * piece + bytes.len()) as i64 - preface.len() as i64;
                    let expected = came >= from && came < to;
                    assert_eq!(headings.since().is_some(), expected, "{came} of {frames:?} by {piece}");
                }
            }
        }
        // Each block has a time of its own.
        let mut headings = Headings::default();
        headings.read(Micros(1), &[preface, begun[..12].to_vec()].concat());
        headings.read(Micros(2), &begun[12..]);
        assert_eq!(headings.since(), Some(Micros(1)));
        headings.read(Micros(3), &[frame(9, 4, 1, &[]), frame(1, 0, 3, &[])].concat());
        assert_eq!(headings.since(), Some(Micros(3)));
    }

    #[test]
    fn only_what_its_server_says_it_did_not_touch_is_untouched() {
        for (code, by_goaway, is_written, expected) in [
            (Some(7), false, true, Unanswered::Refused),
            (Some(7), true, true, Unanswered::Refused),
            (Some(0), true, true, Unanswered::Leaving),
            (Some(0), false, true, Unanswered::MayHaveRun),
            (Some(8), false, true, Unanswered::MayHaveRun),
            (Some(2), true, true, Unanswered::MayHaveRun),
            (None, true, true, Unanswered::MayHaveRun),
            (None, false, true, Unanswered::MayHaveRun),
            (None, false, false, Unanswered::Leaving),
            (Some(7), false, false, Unanswered::Refused),
            (Some(8), false, false, Unanswered::MayHaveRun),
        ] {
            let found = unanswered(code, by_goaway, is_written);
            assert_eq!(found, expected, "{code:?} {by_goaway} {is_written}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_while_it_is_awaited_is_asked_once_and_given_up() {
        let interval = Micros::from_secs(300);
        let mut care = KeepAlive::new(interval, ANSWER);
        // What was heard by then, whether it is awaited, and what is done about it.
        for (heard, is_awaited, expected) in [
            (10, true, (Care::Nothing, interval)),
            (10, false, (Care::Nothing, interval)),
            (10, true, (Care::Ask, ANSWER)),
            (27, true, (Care::Nothing, interval)),
            (27, true, (Care::Ask, ANSWER)),
            (27, false, (Care::Nothing, interval)),
            (27, true, (Care::Ask, ANSWER)),
            (27, true, (Care::GiveUp, ANSWER)),
        ] {
            assert_eq!(care.look(is_awaited, heard), expected, "{heard} {is_awaited}");
        }
    }

    #[test]
    fn a_connection_that_says_nothing_for_a_second_gets_no_more() {
        let just_less = Micros(SILENCE.0 - 1);
        for (waited, heard, expected) in [
            (SILENCE, false, true),
            (SILENCE, true, false),
            (just_less, false, false),
            (Micros(0), true, false),
        ] {
            assert_eq!(is_silent(waited, heard), expected, "{waited:?} {heard}");
        }
    }

    #[test]
    fn what_a_server_announces_is_found_however_its_bytes_are_cut() {
        let (streams, yes, no) = ([0, 3, 0, 0, 0, 100], [0, 8, 0, 0, 0, 1], [0, 8, 0, 0, 0, 0]);
        let (odd, other) = ([0, 8, 1, 0, 0, 1], [8, 0, 0, 0, 0, 1]);
        for (text, expected) in [
            (frame(4, 0, 0, &[]), false),
            (frame(4, 0, 0, &yes), true),
            (frame(4, 0, 0, &[yes, no].concat()), false),
            (frame(4, 0, 0, &no), false),
            (frame(4, 0, 0, &odd), false),
            (frame(4, 0, 0, &other), false),
            (frame(4, 1, 0, &[]), false),
            (frame(4, 0, 1, &yes), false),
            (frame(4, 0, 0, &yes[1..]), false),
            (frame(6, 0, 0, &[0; 8]), false),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false),
        ] {
            // What follows says nothing.
            let text = [text, frame(4, 0, 0, &if expected { no } else { yes })].concat();
            for piece in 1..text.len() {
                let mut preface = Preface::default();
                let found = text.chunks(piece).find_map(|bytes| preface.read(bytes));
                let expected = Announcement { connect: expected, streams: None };
                assert_eq!(found, Some(expected), "{text:?} in pieces of {piece}");
            }
        }
        let all = frame(4, 0, 0, &[streams, other, yes].concat());
        let expected = Announcement { connect: true, streams: Some(100) };
        assert_eq!(Preface::default().read(&all), Some(expected));
        let whole = frame(4, 0, 0, &yes);
        for cut in 0..whole.len() {
            assert_eq!(Preface::default().read(&whole[..cut]), None, "{cut}");
        }
    }
}
