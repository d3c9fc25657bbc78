//! Any call that passes its arity check has keys among its arguments, or a key error; COMMAND answers any call.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_base::args::OwnedArgs;
use skep_command::{describe, entry, resolve, COMMAND_COUNT};
use skep_resp::{Protocol, Reply, Value};

fuzz_target!(|data: &[u8]| {
    let [choice, rest @ ..] = data else { return };
    let named = entry(usize::from(*choice) % COMMAND_COUNT).expect("within the table");
    let name = named.name.as_bytes().split(|b| *b == b'|');
    let args = OwnedArgs::collect(name.chain(rest.split(|b| *b == b' ')));
    let args = args.args();
    let Ok(command) = resolve(args) else { return };
    if let Ok(keys) = command.keys(args) {
        assert!(keys.iter().all(|key| (1..args.len()).contains(&key.index)));
    }
    if args.is(0, "command") {
        let mut out = Vec::new();
        if describe::answer(args, &mut Reply::new(&mut out, Protocol::Resp3)).is_ok() {
            assert!(matches!(Value::parse(&out), Ok(Some((_, n))) if n == out.len()));
        }
    }
});
