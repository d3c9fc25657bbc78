//! Clients of HTTP/2 that reset what they ask at once.
//!
//! Asking is cheap for such a client, and not for upstreams, where each of its streams ends a connection ("rapid reset",
//! CVE-2023-44487). Who makes many hasty streams is to go. One that was given some time is not hasty: who gives up waiting does no
//! harm, and so many at once are all that a connection may have. Both as Envoy does
//! (`overload.premature_reset_total_stream_count`).

use skep_base::Micros;

/// Of so many streams that ended last, fewer than half may be hasty.
const COUNTED: usize = 200;
/// Streams that end before this, unanswered, are hasty.
const HASTE: Micros = Micros::from_secs(1);

/// The streams of one connection that ended last. Cost: 36 bytes, and nothing that grows.
#[derive(Clone, Copy, Default, Debug)]
pub struct Haste {
    /// Whether each of the last [`COUNTED`] was hasty, a bit each, in a ring.
    last: [u8; COUNTED / 8],
    /// The place of the next one.
    next: u8,
    hasty: u8,
}

impl Haste {
    /// Takes in a stream that has ended after `lived`, its reply begun or not. True if its client has made too many hasty ones.
    pub fn ended(&mut self, answered: bool, lived: Micros) -> bool {
        let is_hasty = !answered && lived < HASTE;
        let (byte, bit) = (&mut self.last[usize::from(self.next / 8)], 1 << (self.next % 8));
        // The one that stood here is not among the last any more.
        self.hasty = self.hasty + u8::from(is_hasty) - u8::from(*byte & bit != 0);
        *byte = if is_hasty { *byte | bit } else { *byte & !bit };
        self.next = (self.next + 1) % COUNTED as u8;
        usize::from(self.hasty) >= COUNTED / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: (bool, Micros) = (false, Micros(0));
    const ANSWERED: (bool, Micros) = (true, Micros(0));
    const PATIENT: (bool, Micros) = (false, HASTE);

    /// How many streams it takes until their client is to go, of `kinds` again and again.
    fn until(kinds: &[(bool, Micros)]) -> Option<usize> {
        let mut haste = Haste::default();
        let ended =
            kinds.iter().cycle().take(2_000).position(|(answered, lived)| haste.ended(*answered, *lived));
        ended.map(|at| at + 1)
    }

    #[test]
    fn half_of_the_last_streams_may_not_be_reset_at_once() {
        let just_below = [vec![AT_ONCE; 99], vec![ANSWERED; 101]].concat();
        for (what, kinds, expected) in [
            ("all at once", vec![AT_ONCE], Some(100)),
            ("just before they are patient", vec![(false, Micros(HASTE.0 - 1))], Some(100)),
            ("after a second", vec![PATIENT], None),
            ("answered", vec![ANSWERED], None),
            ("every second one", vec![AT_ONCE, ANSWERED], Some(199)),
            ("just below half, all in a row", just_below, None),
            ("one of three", vec![AT_ONCE, ANSWERED, PATIENT], None),
            (
                "few between many",
                [vec![ANSWERED; 101], vec![AT_ONCE; 198], vec![ANSWERED; 101]].concat(),
                Some(201),
            ),
        ] {
            assert_eq!(until(&kinds), expected, "{what}");
        }
    }
}
