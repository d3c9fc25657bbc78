//! Whatever text a client or a file gives: it is taken and reads back, or it is refused and nothing has changed.

use proptest::prelude::*;
use skep_settings::{Kind, SETTINGS, Settings};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "-?[0-9]{0,21}[kKmMgG]?[bB]?",
        "(normal|slave|replica|pubsub|x|[0-9]{1,12}(mb)?| ){1,9}",
        "[a-z0-9.:,\\[\\]]{0,20}:[0-9]{0,6}",
        "[A-Za-z$]{0,12}",
        "([0-9]{1,6} ?){0,6}",
        Just("yes".to_owned()),
    ]
}

proptest! {
    #[test]
    fn it_is_taken_and_reads_back_or_nothing_has_changed(
        changes in proptest::collection::vec((0..SETTINGS.len(), text()), 1..20)
    ) {
        let mut settings = Settings::default();
        for (at, text) in changes {
            let name = SETTINGS[at].name;
            let before = settings.clone();
            match settings.set(name, &text) {
                Ok(()) => {
                    let mut again = settings.clone();
                    let shown = settings.get(name).expect("a row has a value");
                    again.set(name, &shown).expect("what CONFIG GET shows can be set");
                    prop_assert_eq!(&again, &settings, "{} = {:?}", name, shown);
                }
                Err(error) => {
                    prop_assert_eq!(&before, &settings);
                    let line = error.to_string();
                    prop_assert!(!line.contains(['\n', '\r']) && line.len() < 1000, "{:?}", line);
                    if !matches!(SETTINGS[at].kind, Kind::Derived(_)) {
                        let reply = error.refusal().to_string();
                        prop_assert!(reply.starts_with("ERR CONFIG SET failed"), "{}", reply);
                    }
                }
            }
        }
    }

    #[test]
    fn a_command_with_any_arguments_is_all_or_nothing(
        args in proptest::collection::vec(
            prop_oneof![(0..SETTINGS.len()).prop_map(|at| SETTINGS[at].name.to_owned()), text()],
            0..8,
        )
    ) {
        let mut settings = Settings::default();
        if settings.config_set(&args).is_err() {
            prop_assert_eq!(settings, Settings::default());
        }
    }
}
