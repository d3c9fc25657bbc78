//! Frames between nodes, cut in any way, give the same messages and the same error; a message that was read is written
//! and read back equal; whatever a stranger or a peer sends, the links stay sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_base::{LinkId, Millis, NodeId, NodeUuid};
use skep_peer::{
    FRAME_HEADER_BYTES, FrameReader, LinkInput, LinkLimits, LinkOutput, Links, Me, Messages, NoFrame,
    PeerMessage,
};

/// Small, so that the fuzzer meets it.
const BODY_BYTES_MAX: usize = 2_000;

fn bodies(mut input: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<NoFrame>) {
    let (mut reader, mut bodies) = (FrameReader::new(), Vec::new());
    while !input.is_empty() {
        let (mut rest, after) = input.split_at(piece.min(input.len()));
        input = after;
        loop {
            match reader.next(&mut rest, BODY_BYTES_MAX) {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(error) => return (bodies, Some(error)),
            }
        }
        assert!(rest.is_empty() && reader.memory_bytes() <= FRAME_HEADER_BYTES + BODY_BYTES_MAX);
    }
    (bodies, None)
}

fn check_messages(body: &[u8]) {
    for (kind, fields) in Messages::new(body).flatten() {
        let Ok(message) = PeerMessage::decode(kind, fields) else { continue };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let again = Messages::new(&bytes).map(|item| item.expect("just written")).collect::<Vec<_>>();
        let [(kind, fields)] = again[..] else {
            panic!("{message:?} is written as {} messages", again.len())
        };
        assert_eq!(PeerMessage::decode(kind, fields).expect("just written"), message);
        if let PeerMessage::Forward(forward) = &message {
            let (mut reader, mut spans) = (forward.reader(), Vec::new());
            let ops = std::iter::from_fn(|| reader.next_op(&mut spans).map(drop)).count();
            assert_eq!(ops, forward.len());
        }
        if let PeerMessage::ForwardAnswers(answers) = &message {
            assert_eq!(answers.iter().count(), answers.len());
        }
    }
}

fn check_links(input: &[u8], piece: usize) {
    let me = Me {
        uuid: NodeUuid(1),
        node: NodeId(1),
        cluster_id: String::new(),
        incarnation: 1,
        name: "a".to_owned(),
        password: Vec::new(),
    };
    let mut links = Links::new(me, LinkLimits::default(), 1);
    let link = links.accept(Millis(1), "b".to_owned()).expect("the first link");
    let mut out = Vec::new();
    for bytes in input.chunks(piece) {
        links.handle(Millis(2), LinkInput::Received { link, bytes }, &mut out);
        links.flush();
        links.assert_invariants();
    }
}

/// Two nodes that have shaken hands, as the one that accepted sees it.
fn link_that_is_up() -> (Links, LinkId) {
    let node = |number: u64| {
        let me = Me {
            uuid: NodeUuid(u128::from(number)),
            node: NodeId(number),
            cluster_id: String::new(),
            incarnation: 1,
            name: String::new(),
            password: Vec::new(),
        };
        Links::new(me, LinkLimits::default(), number)
    };
    let (mut dialer, mut acceptor, mut out) = (node(1), node(2), Vec::new());
    dialer.set_addresses(["b".to_owned()].into(), &mut out);
    let Some(LinkOutput::Dial { link: dialed, .. }) = out.pop() else { panic!("nothing is dialed") };
    let link = acceptor.accept(Millis(1), "a".to_owned()).expect("the first link");
    dialer.handle(Millis(1), LinkInput::Dialed { link: dialed }, &mut out);
    for _ in 0..2 {
        let bytes = dialer.unsent(dialed).to_vec();
        dialer.on_sent(dialed, bytes.len());
        acceptor.handle(Millis(1), LinkInput::Received { link, bytes: &bytes }, &mut out);
        let bytes = acceptor.unsent(link).to_vec();
        acceptor.on_sent(link, bytes.len());
        dialer.handle(Millis(1), LinkInput::Received { link: dialed, bytes: &bytes }, &mut out);
    }
    assert!(acceptor.peer(link).is_some(), "the handshake is over");
    (acceptor, link)
}

/// Gives the input as pieces of a few lanes, numbered as they should be, to a link that is up. What comes out does not
/// depend on how the network cut it.
fn check_pieces(input: &[u8], piece: usize) {
    let mut numbers = [0u8; 4];
    let mut stream = Vec::new();
    for chunk in input.chunks(piece).take(200) {
        let lane = usize::from(chunk[0] % 4);
        let mut body = vec![7];
        body.extend_from_slice(&(chunk.len() as u32 + 1).to_le_bytes());
        body.extend_from_slice(&[lane as u8, numbers[lane] & 0x7f]);
        body.extend_from_slice(&chunk[1..]);
        numbers[lane] = numbers[lane].wrapping_add(1);
        stream.extend(framed(&body));
    }
    let run = |read: usize| {
        let ((mut links, link), mut out) = (link_that_is_up(), Vec::new());
        for bytes in stream.chunks(read) {
            links.handle(Millis(2), LinkInput::Received { link, bytes }, &mut out);
            links.flush();
            links.assert_invariants();
        }
        out
    };
    let whole = run(stream.len().max(1));
    assert_eq!(run(piece), whole);
}

/// With the checksums that belong to it, since no fuzzer guesses one.
fn framed(body: &[u8]) -> Vec<u8> {
    let start = [(body.len() as u32).to_le_bytes(), crc32c::crc32c(body).to_le_bytes()].concat();
    [&start[..], &crc32c::crc32c(&start).to_le_bytes(), body].concat()
}

fuzz_target!(|data: &[u8]| {
    let [choice, input @ ..] = data else { return };
    let piece = usize::from(choice >> 1) + 1;
    check_messages(input);
    let stream = if choice & 1 == 0 { input.to_vec() } else { input.chunks(64).flat_map(framed).collect() };
    let whole = bodies(&stream, stream.len().max(1));
    assert_eq!(bodies(&stream, 1), whole);
    assert_eq!(bodies(&stream, piece), whole);
    check_links(&stream, piece);
    check_links(&framed(input), piece);
    check_pieces(input, piece);
});
