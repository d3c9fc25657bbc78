//! `MONITOR`: clients that are shown every command which the clients of this node send, in all its cells.
//!
//! A command of the node is shown when it is about to run, one on keys or about transactions when it has run or is on its way to
//! its shard, one of a transaction when it is queued. This cell's monitors see it at once, those of other cells by mail. Commands of
//! administrators are not shown, as in Redis.

use skep_base::{Args, ConnId, Refusal};
use skep_command::{CommandSpec, Flags};

use super::{Call, Group, Parts};
use skep_acl::without_rights;

use crate::cells::{Caller, Message, Part};
use crate::{Node, Output};

pub const COMMANDS: Group = &[("monitor", monitor)];

pub const PARTS: Parts = &[("monitor", monitor_part)];

/// Who watches.
#[derive(Default)]
pub(crate) struct Monitors {
    /// Somebody does, on this node.
    pub is_on: bool,
    here: Vec<ConnId>,
    /// By cell: how many of its clients do.
    counts: Vec<usize>,
}

impl Monitors {
    fn count(&mut self, cell: usize) -> &mut usize {
        if self.counts.len() <= cell {
            self.counts.resize(cell + 1, 0);
        }
        &mut self.counts[cell]
    }
}

fn monitor(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    node.parts(&mut call)?;
    let client = node.client(call.conn);
    if client.monitors {
        // It was counted once more.
        node.monitor_left();
    } else {
        client.monitors = true;
        node.monitors.here.push(call.conn);
    }
    call.reply.ok();
    Ok(())
}

fn monitor_part(node: &mut Node, caller: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    *node.monitors.count(caller.cell) += 1;
    node.monitors.is_on = true;
    Ok(Part::Done)
}

impl Node {
    /// A client is gone, or is to be as it was at first.
    pub(crate) fn end_monitor(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.monitors = false;
        }
        if let Some(at) = self.monitors.here.iter().position(|known| *known == conn) {
            self.monitors.here.swap_remove(at);
            self.monitor_left();
        }
    }

    fn monitor_left(&mut self) {
        self.on_monitor_left(self.cells.me);
        for cell in self.cells.others() {
            self.cells.send(cell, Message::MonitorLeft);
        }
    }

    /// One monitor less in a cell.
    pub(crate) fn on_monitor_left(&mut self, cell: usize) {
        let count = self.monitors.count(cell);
        // A client may leave before its own cell has heard of all parts.
        *count = count.saturating_sub(1);
        self.monitors.is_on = self.monitors.counts.iter().any(|count| *count > 0);
    }

    /// Shows a command to everybody who watches.
    #[cold]
    pub(crate) fn show_command(&mut self, conn: ConnId, command: &'static CommandSpec, args: Args<'_>) {
        if command.flags.has(Flags::ADMIN) || command.name == "auth" {
            return;
        }
        let Some(client) = self.clients.get(conn) else { return };
        let wall = self.now.wall.0;
        let mut line =
            format!("+{}.{:06} [{} {}]", wall / 1_000, wall % 1_000 * 1_000, client.db, client.address);
        for (at, arg) in without_rights(args).iter().enumerate() {
            line.push(' ');
            match command.name == "hello" && at >= 2 {
                true => line.push_str("\"(redacted)\""),
                false => quote(arg, &mut line),
            }
        }
        line.push_str("\r\n");
        for cell in self.cells.others() {
            if *self.monitors.count(cell) > 0 {
                self.cells.send(cell, Message::Shown(line.clone().into_bytes()));
            }
        }
        self.on_shown(line.as_bytes());
    }

    /// Gives lines to the monitors of this cell.
    pub(crate) fn on_shown(&mut self, lines: &[u8]) {
        for conn in &self.monitors.here {
            if let Some(client) = self.clients.get_mut(*conn) {
                client.output.extend_from_slice(lines);
                self.grown.push(*conn);
            }
        }
    }
}

/// Writes bytes between quotes, those that cannot be seen as `\x00`, as redis-cli reads them.
fn quote(bytes: &[u8], line: &mut String) {
    line.push('"');
    for byte in bytes {
        match byte {
            b'\\' | b'"' => {
                line.push('\\');
                line.push(char::from(*byte));
            }
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            7 => line.push_str("\\a"),
            8 => line.push_str("\\b"),
            b' '..=b'~' => line.push(char::from(*byte)),
            _ => line.push_str(&format!("\\x{byte:02x}")),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::quote;
    use crate::testing::World;

    #[test]
    fn bytes_are_quoted_as_redis_quotes_them() {
        let mut line = String::new();
        quote(b"a\"\\\n\r\t\x07\x08\x00\xff ~", &mut line);
        assert_eq!(line, r#""a\"\\\n\r\t\a\b\x00\xff ~""#);
    }

    #[test]
    fn what_waits_for_the_replies_before_it_is_shown_once() {
        let mut w = World::new(&[]);
        let (c, d) = (w.connect(), w.connect());
        assert_eq!(w.ask(c, "MONITOR"), "+OK");
        assert_eq!(
            w.ask(d, "INCR a\nMULTI\nPING\nINCR a\nEXEC\nINCR a\nWATCH a\nINCR a\nCLIENT GETNAME"),
            ":1 +OK +QUEUED +QUEUED *2 +PONG :2 :3 +OK :4 $-1"
        );
        let seen = w.replies(c);
        let seen: Vec<&str> = seen.split(" +").map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!(seen, ["INCR", "MULTI", "PING", "INCR", "EXEC", "INCR", "WATCH", "INCR", "CLIENT"]);
    }

    #[test]
    fn who_watches_sees_what_the_others_send() {
        let mut w = World::new(&[]);
        let (c, d) = (w.connect(), w.connect());
        assert_eq!(w.ask(c, "MONITOR\nMONITOR"), "+OK +OK");
        w.ask(d, "SELECT 1\nSET a 1\nCONFIG GET x\nAUTH x\nHELLO 2 SETNAME me");
        let seen = w.replies(c);
        assert_eq!(
            seen,
            "+1700000000.123000 [0 10.0.0.2:5000] \"SELECT\" \"1\" +1700000000.123000 [1 10.0.0.2:5000] \"SET\" \"a\" \
             \"1\" +1700000000.123000 [1 10.0.0.2:5000] \"HELLO\" \"2\" \"(redacted)\" \"(redacted)\""
        );
        assert!(w.ask(d, "CLIENT LIST").contains(" flags=O "));
        w.replies(c);
        assert!(w.ask(c, "RESET").ends_with("+RESET"));
        w.ask(d, "GET a");
        assert_eq!(w.replies(c), "");
        assert!(!w.node.monitors.is_on);
    }
}
