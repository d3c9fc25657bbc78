//! What a client knows of its own keys when it does not know what became of its commands: some states, one of which they are in.

use super::{Client, Expiring, Kind, OVER_MAX, Over, State, Surroundings};
use crate::model::{Model, Words};

impl Client {
    /// Leaves the own keys as they are and goes on with fresh ones.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.workload.begin_epoch(self.epoch);
        self.candidates = vec![Model::default()];
        self.expiring.clear();
    }

    /// The connection is gone, with the process if `crashed`; if `lossy`, acknowledged writes may be gone too.
    pub fn on_lost(&mut self, crashed: bool, lossy: bool, around: &mut Surroundings<'_>) {
        self.state = State::Down;
        self.generation += 1;
        self.conn = None;
        (self.bound, self.gives_up) = (false, false);
        self.unread.clear();
        let mut frontier = self.candidates.clone();
        let mut uncertain = false;
        for sent in std::mem::take(&mut self.sent) {
            match sent.kind {
                Kind::Private(epoch) if epoch == self.epoch => {
                    uncertain = true;
                    self.extend_candidates(&sent.words, &mut frontier, around.plan.refuses());
                }
                Kind::Expiring(epoch) if epoch == self.epoch && sent.words.len() > 2 => {
                    uncertain = true;
                    self.expiring.insert(sent.words[1].clone(), Expiring::Unknown);
                }
                Kind::Ledger(..) => around.ledger.on_lost(&sent.words),
                Kind::History(op) | Kind::ReadWatched(op) | Kind::Replace(op) => around.histories.on_lost(op),
                _ => {}
            }
        }
        if !around.plan.alone() {
            if uncertain {
                self.end_epoch();
            }
            return;
        }
        if around.plan.memory {
            self.history.extend(self.candidates.iter().cloned());
            if lossy {
                self.candidates.append(&mut self.history);
                self.history.extend(self.candidates.iter().cloned());
            }
        }
        self.candidates.sort();
        self.candidates.dedup();
        if lossy {
            self.expiring.clear();
        } else if crashed {
            // That a read saw a key expired is not logged; if the clock went back meanwhile, it may be seen again.
            self.expiring.retain(|_, known| !matches!(known, Expiring::Gone));
        }
        self.after_crash |= crashed;
    }

    /// Gives up the own keys, which must hold one of the candidates at the end.
    fn end_epoch(&mut self) {
        self.candidates.sort();
        self.candidates.dedup();
        let candidates = std::mem::take(&mut self.candidates);
        if self.over.len() < OVER_MAX {
            self.over.push(Over { show: self.workload.show(), candidates });
        }
        self.begin_epoch();
    }

    /// One more command without an answer: it was carried out, or it and all behind it were not. If commands may be
    /// refused, those behind it may have been carried out all the same.
    fn extend_candidates(&mut self, words: &Words, frontier: &mut Vec<Model>, subsets: bool) {
        let mut next: Vec<Model> = frontier.iter().flat_map(|m| m.outcomes(words)).collect();
        next.sort();
        next.dedup();
        self.candidates.extend(next.iter().cloned());
        if subsets {
            self.candidates.sort();
            self.candidates.dedup();
            frontier.clone_from(&self.candidates);
        } else {
            *frontier = next;
        }
    }
}
