//! Which socket an event is about: the loop's own, a client's by its place, a link's by its id.

use mio::Token;
use skep_base::LinkId;

pub(crate) const CLIENT_DOOR: Token = Token(0);
pub(crate) const PEER_DOOR: Token = Token(1);
pub(crate) const WAKER: Token = Token(2);
const FIRST_CLIENT: usize = 3;
/// Behind all places that clients can have, which are 32 bits.
const FIRST_LINK: usize = 1 << 33;

pub(crate) fn of_client(place: usize) -> Token {
    Token(FIRST_CLIENT + place)
}

/// The place of the client that the token stands for.
pub(crate) fn client(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST_CLIENT).filter(|_| token.0 < FIRST_LINK)
}

pub(crate) fn of_link(link: LinkId) -> Token {
    Token(FIRST_LINK + link.0 as usize)
}

/// The link that the token stands for.
pub(crate) fn link(token: Token) -> Option<LinkId> {
    token.0.checked_sub(FIRST_LINK).map(|id| LinkId(id as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_one_socket_only() {
        for place in [0, 1, u32::MAX as usize] {
            assert_eq!((client(of_client(place)), link(of_client(place))), (Some(place), None));
        }
        for id in [0, 1, 1 << 40].map(LinkId) {
            assert_eq!((client(of_link(id)), link(of_link(id))), (None, Some(id)));
        }
        for own in [CLIENT_DOOR, PEER_DOOR, WAKER] {
            assert_eq!((client(own), link(own)), (None, None));
        }
    }
}
