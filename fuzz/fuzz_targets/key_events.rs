//! Batches of events of keys as other nodes send them: what was read is written and read back equal, and nothing is read behind the
//! first that is malformed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_base::ConnId;

// The codec is the node's own business; it is compiled here as it is there, with this in the place of its neighbour.
#[path = "../../core/node/src/notify/codec.rs"]
mod codec;

/// Who changed a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Author {
    pub cell: u16,
    pub conn: ConnId,
}

fuzz_target!(|data: &[u8]| {
    let mut read = Vec::new();
    let mut is_whole = true;
    for seen in codec::seen(data) {
        assert!(is_whole, "something is read behind what is malformed");
        match seen {
            Ok(seen) => read.push(seen),
            Err(_) => is_whole = false,
        }
    }
    let mut written = Vec::new();
    read.iter().for_each(|seen| codec::put(&mut written, *seen));
    assert_eq!(codec::seen(&written).collect::<Result<Vec<_>, _>>().as_ref(), Ok(&read));
    if let Some(last) = read.last() {
        let mut of_nobody = Vec::new();
        codec::put(&mut of_nobody, last.of_nobody());
        assert!(of_nobody.len() <= written.len(), "an author takes room");
    }
    assert!(codec::seen(&codec::missed()).all(|seen| seen == Ok(codec::Seen::Missed)));
});
