//! Configuration as a user meets it: transcripts of the real binary in `testdata/config`.
//!
//! A transcript opens with the reason why it exists (`#`), may write files (`== name`), runs one command (`== $ …`,
//! variables first) and ends with the exit status and everything that was printed. `UPDATE_TESTDATA=1 cargo test -p
//! skep` writes down what is printed, for review.

#![allow(clippy::unwrap_used, reason = "all of this file is a test")]

use std::path::Path;
use std::process::Command;

#[test]
fn transcripts_are_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/config");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 5, "the transcripts are missing from {}", folder.display());
    let mut failed = Vec::new();
    for path in paths {
        let written = std::fs::read_to_string(&path).unwrap();
        let observed = replay(&written);
        if observed == written {
            continue;
        }
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            std::fs::write(&path, observed).unwrap();
        } else {
            failed.push(format!("{}\n--- observed:\n{observed}", path.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs the command of a transcript and gives the transcript with the output that it had.
fn replay(transcript: &str) -> String {
    let (input, _) = transcript.split_once("\n== exit").unwrap_or((transcript.trim_end(), ""));
    let (files, command) = input.split_once("== $ ").expect("a transcript has a line `== $ command`");
    let folder = tempfile::tempdir().unwrap();
    for file in files.split("== ").skip(1) {
        let (name, text) = file.split_once('\n').unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut words = command.split_whitespace().peekable();
    let mut run = Command::new(env!("CARGO_BIN_EXE_skep"));
    run.current_dir(folder.path()).env_clear();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        run.env(name, value);
        words.next();
    }
    assert_eq!(words.next(), Some("skep"), "{command}");
    let output = run.args(words).output().unwrap();
    let mut text = format!("{input}\n== exit {}\n", output.status.code().unwrap());
    text += &String::from_utf8(output.stdout).unwrap();
    text += &String::from_utf8(output.stderr).unwrap();
    text
}

/// The sample shows every key with its default, so that it can be copied and changed.
#[test]
fn the_sample_file_is_complete_and_says_the_defaults() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/skep.toml");
    let text = std::fs::read_to_string(&sample).unwrap();
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|key| is_key(key)).unwrap_or(line).to_owned() + "\n")
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skep.toml");
    for text in [&text, &uncommented] {
        std::fs::write(&path, text).unwrap();
        let config = skep::config::Config::load(Some(path.clone()), [], Vec::new())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        for spec in skep_settings::SETTINGS.iter().filter(|spec| spec.at_start() && spec.name != "name") {
            let default = skep_settings::Settings::default().get(spec.name);
            assert_eq!(config.settings.get(spec.name), default, "{}", spec.name);
            let has_line = uncommented.lines().any(|l| l.split(" =").next() == Some(spec.name));
            assert!(has_line, "the sample lacks {}", spec.name);
        }
    }
}

/// True for `name = value`.
fn is_key(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(name, _)| skep_settings::find(name).is_some())
}
