//! Any text is a configuration or is refused; one that is taken is written and read back equal, and can be compiled or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_gate::Config;
use skep_gate::auth::Rules;
use skep_gate::router::Router;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text) {
        Ok(config) => {
            let written = config.text();
            let again = Config::parse(&written).unwrap_or_else(|e| panic!("{e:?} in\n{written}"));
            assert_eq!(again, config, "{written}");
            assert_eq!(config.difference(&again), "");
            let _ = Router::new(&config);
            let _ = Rules::new(&config, &[]);
        }
        Err(wrong) => assert!(!wrong.is_empty(), "it is refused for a reason"),
    }
});
