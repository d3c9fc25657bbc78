//! The decoder against transcripts, every split point, random commands and random bytes.

use proptest::prelude::*;
use skep_resp::{Decoder, Limits, ProtocolError, Step, write_command};

type Commands = Vec<Vec<Vec<u8>>>;

/// Decodes `input` given in pieces of the sizes that `piece` says, the way a connection does.
fn decode(
    input: &[u8],
    limits: &Limits,
    mut piece: impl FnMut() -> usize,
) -> (Commands, Option<ProtocolError>) {
    let (mut decoder, mut commands) = (Decoder::new(), Commands::new());
    let (mut start, mut end) = (0, 0);
    loop {
        match decoder.next(&input[start..end], limits) {
            Ok(Step::Command { consumed }) => {
                let args = decoder.args(&input[start..end]);
                commands.push(args.iter().map(<[u8]>::to_vec).collect());
                start += consumed;
            }
            Ok(Step::Skip { consumed }) => start += consumed,
            Ok(Step::Incomplete { needed }) => {
                assert!(needed > end - start, "{needed} bytes needed, {} are there", end - start);
                if end == input.len() {
                    return (commands, None);
                }
                end = (end + piece().max(1)).min(input.len());
            }
            Err(error) => return (commands, Some(error)),
        }
        assert!(start <= end, "consumed {start} of {end} bytes");
    }
}

fn whole(input: &[u8], limits: &Limits) -> (Commands, Option<ProtocolError>) {
    decode(input, limits, || input.len())
}

/// Commands as readable text: arguments joined by `|`, commands by `;`, an error behind `!`.
fn shown(input: &[u8], limits: &Limits) -> String {
    let (commands, error) = whole(input, limits);
    let mut text: Vec<String> = commands
        .iter()
        .map(|c| c.iter().map(|a| a.escape_ascii().to_string()).collect::<Vec<_>>().join("|"))
        .collect();
    text.extend(error.map(|e| format!("!{e}")));
    text.join(";")
}

const TRANSCRIPTS: &[(&str, &str)] = &[
    // Arrays of bulk strings.
    ("*1\r\n$4\r\nPING\r\n", "PING"),
    ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", "GET|k;PING"),
    ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "SET|k|"),
    ("*1\r\n$4\r\na\r\nb\r\n", "a\\r\\nb"),
    ("*1\r\n$12\r\nabcdefghijkl\r\n", "abcdefghijkl"),
    // Nothing to do, nothing to say.
    ("*0\r\n*1\r\n$4\r\nPING\r\n", "PING"),
    ("*-1\r\n*-10\r\n*1\r\n$4\r\nPING\r\n", "PING"),
    ("\r\n\n   \r\nPING\r\n", "PING"),
    // The bytes behind CR and behind an argument are not looked at.
    ("*1\rx$4\r.PING,,PING\r\n", "PING;PING"),
    // Lengths.
    ("*\r\n", "!Protocol error: invalid multibulk length"),
    ("*x\r\n", "!Protocol error: invalid multibulk length"),
    ("*1x\r\n", "!Protocol error: invalid multibulk length"),
    ("*01\r\n", "!Protocol error: invalid multibulk length"),
    ("*+1\r\n", "!Protocol error: invalid multibulk length"),
    ("* 1\r\n", "!Protocol error: invalid multibulk length"),
    ("*-0\r\n", "!Protocol error: invalid multibulk length"),
    ("*3000000000\r\n", "!Protocol error: invalid multibulk length"),
    ("*99999999999999999999\r\n", "!Protocol error: invalid multibulk length"),
    ("*1048576\r\n$4\r\nPING\r\n", ""),
    ("*1048577\r\n", "!Protocol error: invalid multibulk length"),
    ("*1\r\nfoo\r\n", "!Protocol error: expected '$', got 'f'"),
    ("*2\r\n$4\r\nPING\r\n:1\r\n", "!Protocol error: expected '$', got ':'"),
    ("*1\r\n$\r\n", "!Protocol error: invalid bulk length"),
    ("*1\r\n$-1\r\n", "!Protocol error: invalid bulk length"),
    ("*1\r\n$01\r\n", "!Protocol error: invalid bulk length"),
    ("*1\r\n$blah\r\n", "!Protocol error: invalid bulk length"),
    ("*1\r\n$536870912\r\nabc", ""),
    ("*1\r\n$536870913\r\n", "!Protocol error: invalid bulk length"),
    // Inline commands and their quotes.
    ("PING\n", "PING"),
    ("  set\tk   v  \r\n", "set|k|v"),
    ("set k \"a b\"\r\n", "set|k|a b"),
    ("set k \"\"\r\n", "set|k|"),
    ("set k ''\n", "set|k|"),
    ("\"\"\n", ""),
    ("a\"b c\"\n", "ab c"),
    (r#"echo "\x41\x7A\n\r\t\b\a\"\\\q\xg1""#, ""),
    ("echo \"\\x41\\x7A\\n\\r\\t\\b\\a\\\"\\\\\\q\\xg1\"\n", "echo|Az\\n\\r\\t\\x08\\x07\\\"\\\\qxg1"),
    ("echo 'a\\'b\\n' c\n", "echo|a\\'b\\\\n|c"),
    ("echo a\\nb\n", "echo|a\\\\nb"),
    ("echo \"a\n", "!Protocol error: unbalanced quotes in request"),
    ("echo 'a\n", "!Protocol error: unbalanced quotes in request"),
    ("echo \"a\\\"\n", "!Protocol error: unbalanced quotes in request"),
    ("echo \"a\"b\n", "!Protocol error: unbalanced quotes in request"),
    ("echo 'a'b\n", "!Protocol error: unbalanced quotes in request"),
    ("*1\r\n$4\r\nPING\r\nGET \"k\"\r\n*1\r\n$4\r\nPING\r\n", "PING;GET|k;PING"),
    ("a\x0bb \x0cc\n", "a\\x0bb|c"),
    // A browser made to speak to us.
    ("POST / HTTP/1.1\r\nHost: localhost\r\n", "!Protocol error: possible cross-protocol request"),
    ("host: localhost:6379\r\n", "!Protocol error: possible cross-protocol request"),
    ("\"post\" x\r\n", "!Protocol error: possible cross-protocol request"),
    ("GET / HTTP/1.1\r\n", "GET|/|HTTP/1.1"),
];

#[test]
fn transcripts_are_read_as_redis_reads_them() {
    for (input, expected) in TRANSCRIPTS {
        assert_eq!(shown(input.as_bytes(), &Limits::default()), *expected, "{input:?}");
    }
    let (commands, _) = whole(b"\"\"\n", &Limits::default());
    assert_eq!(commands, [[b""]], "an empty quoted argument is an argument");
}

#[test]
fn every_way_of_cutting_gives_the_same() {
    let all: String = TRANSCRIPTS.iter().filter(|(_, e)| !e.contains('!')).map(|(input, _)| *input).collect();
    for input in TRANSCRIPTS.iter().map(|(input, _)| *input).chain([all.as_str()]) {
        let input = input.as_bytes();
        let expected = whole(input, &Limits::default());
        for cut in 1..=input.len() {
            let mut first = true;
            let split =
                decode(
                    input,
                    &Limits::default(),
                    || if std::mem::take(&mut first) { cut } else { input.len() },
                );
            assert_eq!(split, expected, "{:?} cut at {cut}", input.escape_ascii().to_string());
            assert_eq!(decode(input, &Limits::default(), || cut), expected, "in pieces of {cut}");
        }
    }
}

#[test]
fn before_authentication_only_little_is_accepted() {
    let limits = Limits { authenticated: false, ..Limits::default() };
    assert_eq!(shown(b"*11\r\n", &limits), "!Protocol error: unauthenticated multibulk length");
    assert_eq!(shown(b"*10\r\n", &limits), "");
    assert_eq!(shown(b"*1\r\n$16385\r\n", &limits), "!Protocol error: unauthenticated bulk length");
    assert_eq!(shown(b"*1\r\n$16384\r\n", &limits), "");
    assert_eq!(shown(b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n", &limits), "AUTH|x");
}

#[test]
fn endless_lines_are_refused() {
    let limits = Limits { inline_bytes_max: 100, ..Limits::default() };
    for (start, error) in [
        ("", ProtocolError::TooBigInline),
        ("*", ProtocolError::TooBigMultibulkCount),
        ("*1\r\n$", ProtocolError::TooBigBulkCount),
    ] {
        for end in ["", "\r\n"] {
            let input = format!("{start}{}{end}", "1".repeat(101));
            assert_eq!(whole(input.as_bytes(), &limits), (vec![], Some(error)), "{input}");
            assert_eq!(
                decode(input.as_bytes(), &limits, || 1),
                (vec![], Some(error)),
                "{input} byte by byte"
            );
        }
    }
    assert_eq!(shown("1".repeat(100).as_bytes(), &limits), "");
}

#[test]
fn a_request_as_a_whole_is_limited() {
    let limits = Limits { command_bytes_max: 30, ..Limits::default() };
    assert_eq!(shown(b"*2\r\n$8\r\n12345678\r\n$4\r\n1234\r\n", &limits), "12345678|1234");
    assert_eq!(shown(b"*2\r\n$8\r\n12345678\r\n$8\r\n", &limits), "!Protocol error: too big request");
}

#[test]
fn an_announced_length_says_what_is_needed() {
    let mut decoder = Decoder::new();
    let limits = Limits::default();
    assert_eq!(decoder.next(b"*2\r\n$3\r\nGET\r\n$100\r\n", &limits), Ok(Step::Incomplete { needed: 121 }));
    assert_eq!(
        decoder.next(b"*2\r\n$3\r\nGET\r\n$100\r\nabc", &limits),
        Ok(Step::Incomplete { needed: 121 })
    );
}

#[test]
fn replies_to_errors_carry_the_prefix() {
    assert_eq!(
        ProtocolError::ExpectedDollar { got: b'x' }.reply().as_deref(),
        Some("ERR Protocol error: expected '$', got 'x'")
    );
    assert_eq!(ProtocolError::CrossProtocol.reply(), None);
}

#[test]
fn a_huge_array_in_small_pieces_is_read_once() {
    // Quadratic work would take minutes here.
    let mut input = Vec::new();
    let args: Vec<&[u8]> = (0..300_000).map(|_| &b"x"[..]).collect();
    write_command(&mut input, args.iter().copied());
    let (commands, error) = decode(&input, &Limits::default(), || 7);
    assert_eq!((commands.len(), commands[0].len(), error), (1, 300_000, None));
}

fn any_commands() -> impl Strategy<Value = Commands> {
    let arg = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 0..2000),
    ];
    prop::collection::vec(prop::collection::vec(arg, 1..6), 1..8)
}

/// Bytes that look enough like the protocol to get deep into it.
fn near_protocol() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*1\r\n".to_vec()),
        Just(b"*2\r\n".to_vec()),
        Just(b"$1\r\n".to_vec()),
        Just(b"$3\r\n".to_vec()),
        Just(b"a\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"'".to_vec()),
        Just(b"\\x4".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(commands in any_commands(), pieces in prop::collection::vec(1usize..50, 1..20)) {
        let mut input = Vec::new();
        for command in &commands {
            write_command(&mut input, command.iter().map(Vec::as_slice));
        }
        let mut turn = pieces.iter().cycle();
        let read = decode(&input, &Limits::default(), || *turn.next().unwrap());
        prop_assert_eq!(read, (commands, None));
    }

    #[test]
    fn any_bytes_in_any_pieces_give_the_same(input in near_protocol(), piece in 1usize..9) {
        let limits = Limits { inline_bytes_max: 40, command_bytes_max: 100, ..Limits::default() };
        let expected = whole(&input, &limits);
        prop_assert_eq!(decode(&input, &limits, || piece), expected);
    }
}
