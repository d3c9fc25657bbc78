//! What a client makes of replies: each is judged by what the client, or all clients together, know.

use skep_resp::Value;

use super::{Client, Expiring, Kind, Sent, State, Surroundings};
use crate::bank;
use crate::ledger::LEDGER_DB;
use crate::model::{Model, Plain, show};
use crate::workload::PRIVATE_DB;

impl Client {
    /// Takes bytes from the node and checks the replies in them. Gives bytes to send in answer.
    pub fn receive(&mut self, bytes: &[u8], around: &mut Surroundings<'_>) -> Result<Vec<u8>, String> {
        self.unread.extend_from_slice(bytes);
        let mut used = 0;
        let mut answer = Vec::new();
        while let Some((value, len)) =
            Value::parse(&self.unread[used..]).map_err(|e| format!("INV-SIM-9: {e}"))?
        {
            used += len;
            self.replies += 1;
            let Some(sent) = self.sent.pop_front() else {
                return Err(format!("INV-SIM-9: a reply that nobody asked for: {value:?}"));
            };
            answer.extend(self.on_reply(&sent, &Plain::of(&value), around)?);
        }
        self.unread.drain(..used);
        if self.state == State::Syncing && self.sent.is_empty() && answer.is_empty() {
            self.state = State::Up;
            self.audits = false;
            self.candidates.truncate(1);
            if std::mem::take(&mut self.after_crash) {
                // What a start recovered is durable.
                self.history.clone_from(&self.candidates);
            }
        }
        Ok(answer)
    }

    fn on_reply(
        &mut self,
        sent: &Sent,
        reply: &Plain,
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<u8>, String> {
        let reply = &match &sent.kind {
            Kind::Ledger(_, carrier) => carrier.unwrap(&sent.words, reply)?,
            // Its only command was refused when its turn came.
            Kind::Replace(_) => match reply {
                Plain::List(done) if matches!(done[..], [Plain::Error(_)]) => done[0].clone(),
                _ => reply.clone(),
            },
            _ => reply.clone(),
        };
        if reply.is_refusal() || reply.is_uncertain() {
            return self.on_refused(sent, reply, around);
        }
        let judges = !around.plan.evicts_all();
        match &sent.kind {
            Kind::Any => {}
            Kind::Select if *reply == Plain::Text(b"OK".to_vec()) => {}
            Kind::Select => return Err(format!("INV-SIM-9: SELECT was answered {reply:?}")),
            Kind::Barrier => return Ok(self.go_on_syncing(around)),
            Kind::Show if judges => {
                self.judged += 1;
                retain(&mut self.candidates, sent, reply)?;
            }
            Kind::ShowOver(place) if judges => {
                self.judged += 1;
                retain(&mut self.over[*place].candidates, sent, reply)?;
            }
            Kind::Private(epoch) if judges && *epoch == self.epoch => {
                self.judged += 1;
                let model = self.candidates.first_mut().expect("a client that is up has one model");
                model.observe(&sent.words, reply).map_err(|e| format!("INV-SIM-4: {e}"))?;
                if around.plan.memory {
                    self.history.push(model.clone());
                }
            }
            Kind::Expiring(epoch) if *epoch == self.epoch => self.on_expiring(sent, reply, around)?,
            Kind::Ledger(before, _) if judges => {
                around.ledger.on_reply(&sent.words, before, reply, around.at)?
            }
            Kind::Bank(tells) if judges => {
                self.judged += 1;
                bank::judge(&sent.words, *tells, reply)?;
            }
            Kind::History(op) => {
                self.judged += 1;
                around.histories.on_reply(around.at, *op, &sent.words, reply)?;
            }
            Kind::Watch if *reply == Plain::Text(b"OK".to_vec()) => self.watches = Some(true),
            Kind::Watch => return Err(format!("INV-SIM-9: WATCH was answered {reply:?}")),
            Kind::ReadWatched(op) => {
                self.judged += 1;
                around.histories.on_reply(around.at, *op, &sent.words, reply)?;
                let mut bytes = Vec::new();
                self.replace(&mut bytes, *op, around);
                return Ok(bytes);
            }
            Kind::Replace(op) => {
                self.judged += 1;
                self.watches = None;
                around.histories.on_reply(around.at, *op, &sent.words, reply)?;
            }
            Kind::Audit(queue) if judges && !around.ledger.audit(queue, reply)? => {
                let mut bytes = Vec::new();
                self.send_again(&mut bytes, sent, around);
                return Ok(bytes);
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// A command was not carried out, or may be carried out later. Gives bytes to send in answer.
    fn on_refused(
        &mut self,
        sent: &Sent,
        reply: &Plain,
        around: &mut Surroundings<'_>,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        match &sent.kind {
            Kind::Private(epoch) | Kind::Expiring(epoch) => {
                if reply.is_uncertain() && *epoch == self.epoch {
                    self.begin_epoch();
                }
            }
            Kind::Ledger(..) if reply.is_uncertain() => around.ledger.on_lost(&sent.words),
            Kind::Ledger(before, _) => around.ledger.on_refused(&sent.words, before, around.at),
            Kind::History(op) => around.histories.on_reply(around.at, *op, &sent.words, reply)?,
            Kind::ReadWatched(op) => {
                around.histories.on_reply(around.at, *op, &sent.words, reply)?;
                self.watches = Some(false);
                self.replace(&mut bytes, *op, around);
            }
            Kind::Replace(op) => {
                self.watches = None;
                around.histories.on_reply(around.at, *op, &sent.words, reply)?;
            }
            Kind::Watch => self.watches = Some(false),
            // These change nothing, so they can be sent again; where there are other nodes, to any of them after a while.
            Kind::Barrier | Kind::Show | Kind::ShowOver(_) | Kind::Audit(_) => match around.plan.alone() {
                true => self.send_again(&mut bytes, sent, around),
                false => self.gives_up = true,
            },
            Kind::Any | Kind::Bank(_) | Kind::Select => {}
        }
        Ok(bytes)
    }

    fn send_again(&mut self, bytes: &mut Vec<u8>, sent: &Sent, around: &Surroundings<'_>) {
        let db = if matches!(sent.kind, Kind::Audit(_)) { LEDGER_DB } else { PRIVATE_DB };
        self.select(bytes, db, around.wall_min);
        self.send(bytes, sent.words.clone(), sent.kind.clone(), around.wall_min);
    }

    fn on_expiring(&mut self, sent: &Sent, reply: &Plain, around: &Surroundings<'_>) -> Result<(), String> {
        let key = &sent.words[1];
        self.judged += 1;
        if sent.words.len() > 2 {
            let deadline = std::str::from_utf8(&sent.words[4]).ok().and_then(|t| t.parse().ok()).unwrap_or(0);
            self.expiring.insert(key.clone(), Expiring::Set { value: sent.words[2].clone(), deadline });
            return Ok(());
        }
        let wrong = |what: &str| Err(format!("{what}: {} was answered {reply:?}", show(&sent.words)));
        match (self.expiring.get(key).unwrap_or(&Expiring::Unknown), reply) {
            (Expiring::Unknown, _) | (Expiring::Gone, Plain::Nil) => Ok(()),
            (Expiring::Gone, _) => wrong("INV-SIM-8: a key that was seen to be expired came back"),
            (Expiring::Set { deadline, .. }, Plain::Nil) => {
                let may_be_gone = *deadline <= around.wall_max || around.plan.evicts_volatile();
                self.expiring.insert(key.clone(), Expiring::Gone);
                if may_be_gone { Ok(()) } else { wrong("INV-SIM-8: a key vanished before its deadline") }
            }
            (Expiring::Set { value, .. }, Plain::Text(seen)) if value != seen => {
                wrong("INV-SIM-8: not the value last set")
            }
            (Expiring::Set { deadline, .. }, _) if deadline + 1 < sent.wall_min => {
                wrong("INV-SIM-8: a key was seen after its deadline")
            }
            _ => Ok(()),
        }
    }
}

/// Keeps the candidates that a read of everything agrees with.
fn retain(candidates: &mut Vec<Model>, sent: &Sent, reply: &Plain) -> Result<(), String> {
    let all = candidates.len();
    candidates.retain(|c| c.clone().observe(&sent.words, reply).is_ok());
    if candidates.is_empty() {
        return Err(format!(
            "INV-SIM-4: {} is {reply:?}, which none of {all} ways of carrying out what the client sent gives",
            show(&sent.words)
        ));
    }
    Ok(())
}
