//! Whatever is read as a reply is written and read back equal, and none of its prefixes is a whole reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_resp::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(Some((value, consumed))) = Value::parse(data) else { return };
    assert!(consumed <= data.len());
    assert_eq!(Value::parse(&data[..consumed - 1]), Ok(None));
    let mut written = Vec::new();
    value.write(&mut written);
    let (again, length) = Value::parse(&written).expect("what was written is a reply").expect("a whole one");
    assert_eq!(length, written.len());
    // Compared as text, since NaN is unequal to itself.
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
});
