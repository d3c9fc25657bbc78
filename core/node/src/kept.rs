//! What was said to another node about its forwards, until that node is known to have it: answers and rejections are lost
//! with the link that carried them, and nothing else would ever say them again. Said twice, they are heard once
//! (`on_forward_answers`, `on_forward_rejected`).

use std::collections::{BTreeMap, VecDeque};

use skep_base::{GroupId, Term};
use skep_peer::{ForwardAnswers, PeerMessage};

/// Bytes of answers kept for one node. Usually they are kept for one way there and back.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// What is kept for one node.
#[derive(Default)]
pub(crate) struct Kept {
    groups: BTreeMap<GroupId, KeptOfGroup>,
    /// Bytes of all answers.
    bytes: usize,
}

#[derive(Default)]
struct KeptOfGroup {
    /// The term in which the forwards that are answered were numbered.
    term: Term,
    answers: VecDeque<ForwardAnswers>,
    rejection: Option<PeerMessage>,
}

impl Kept {
    /// True for what can be lost for good.
    pub fn is_kept(message: &PeerMessage) -> bool {
        matches!(message, PeerMessage::ForwardAnswers(_) | PeerMessage::ForwardRejected { .. })
    }

    /// Keeps what was said, if it can be lost for good. The oldest answers go if there are too many.
    pub fn keep(&mut self, message: PeerMessage) {
        match message {
            PeerMessage::ForwardAnswers(answers) => self.keep_answers(answers),
            PeerMessage::ForwardRejected { group, term, number, .. } => {
                let rejection = &mut self.groups.entry(group).or_default().rejection;
                // It stands for all behind it.
                let stands = |of: &PeerMessage| matches!(of, PeerMessage::ForwardRejected { term: t, number: n, .. } if *t == term && *n < number);
                if !rejection.as_ref().is_some_and(stands) {
                    *rejection = Some(message);
                }
            }
            _ => {}
        }
    }

    fn keep_answers(&mut self, answers: ForwardAnswers) {
        self.on_floor(answers.group, answers.term, 0);
        let Some(of) = self.groups.get_mut(&answers.group).filter(|of| of.term == answers.term) else {
            return;
        };
        self.bytes += answers.bytes();
        of.answers.push_back(answers);
        while self.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = of.answers.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// The node has all answers to forwards before `floor`, of those that it sent to the leader of `group` in `term`; and it
    /// waits for none of an earlier term.
    pub fn on_floor(&mut self, group: GroupId, term: Term, floor: u64) {
        let of = self.groups.entry(group).or_default();
        let has =
            |answers: &ForwardAnswers| of.term < term || of.term == term && answers.last_number() < floor;
        while let Some(answers) = of.answers.pop_front_if(|answers| has(answers)) {
            self.bytes -= answers.bytes();
        }
        if of.term < term {
            (of.term, of.rejection) = (term, None);
        }
    }

    /// All that is kept, in the order in which it was said.
    pub fn all(&self) -> impl Iterator<Item = PeerMessage> {
        self.groups.values().flat_map(|of| {
            let answers = of.answers.iter().map(|answers| PeerMessage::ForwardAnswers(answers.clone()));
            answers.chain(of.rejection.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_peer::Answer;

    fn answers(group: u64, term: u64, numbers: &[u64], bytes: usize) -> PeerMessage {
        let mut answers = ForwardAnswers::new(GroupId(group), Term(term));
        numbers.iter().for_each(|number| answers.push(*number, 0, Answer::Reply(&vec![b'x'; bytes])));
        PeerMessage::ForwardAnswers(answers)
    }

    fn numbers(kept: &Kept) -> Vec<(u64, u64)> {
        let all = kept.all().filter_map(|message| match message {
            PeerMessage::ForwardAnswers(answers) => Some((answers.group.0, answers.last_number())),
            _ => None,
        });
        all.collect()
    }

    #[test]
    fn answers_are_kept_until_their_sender_wants_none_of_them() {
        let mut kept = Kept::default();
        kept.keep(answers(1, 5, &[1, 2], 10));
        kept.keep(answers(1, 5, &[2, 3], 10));
        kept.keep(answers(2, 5, &[1], 10));
        kept.on_floor(GroupId(1), Term(4), 9);
        assert_eq!(numbers(&kept), [(1, 2), (1, 3), (2, 1)]);
        kept.on_floor(GroupId(1), Term(5), 3);
        assert_eq!(numbers(&kept), [(1, 3), (2, 1)]);
        kept.keep(answers(1, 6, &[1], 10));
        assert_eq!(numbers(&kept), [(1, 1), (2, 1)], "of a new term numbers begin with 1");
        kept.keep(answers(1, 5, &[4], 10));
        assert_eq!(numbers(&kept), [(1, 1), (2, 1)]);
        kept.on_floor(GroupId(1), Term(6), 2);
        kept.on_floor(GroupId(2), Term(5), 2);
        assert_eq!((numbers(&kept), kept.bytes), (vec![], 0));
    }

    #[test]
    fn the_oldest_answers_go_if_there_are_too_many() {
        let mut kept = Kept::default();
        (1..=5).for_each(|number| kept.keep(answers(1, 5, &[number], 10 << 20)));
        assert_eq!(numbers(&kept), [(1, 3), (1, 4), (1, 5)]);
        kept.keep(answers(1, 5, &[6], KEPT_BYTES_MAX + 1));
        assert_eq!((numbers(&kept), kept.bytes), (vec![], 0));
    }

    #[test]
    fn the_first_rejection_is_kept_until_another_term_is_forwarded_to() {
        let rejected = |number| PeerMessage::ForwardRejected {
            group: GroupId(1),
            term: Term(5),
            number,
            leader: None,
            leader_term: Term(0),
        };
        let mut kept = Kept::default();
        kept.on_floor(GroupId(1), Term(5), 1);
        kept.keep(rejected(3));
        kept.keep(rejected(4));
        assert_eq!(kept.all().collect::<Vec<_>>(), [rejected(3)]);
        kept.on_floor(GroupId(1), Term(6), 1);
        assert_eq!(kept.all().count(), 0);
    }
}
