//! From the value that a script returns to the reply.

use skep_resp::{Protocol, Reply};

use crate::limits::NESTING_MAX;
use crate::lua::{Kind, Stack, to_integer};

/// Why a value could not be answered with. Nothing of it stands in the reply then.
pub(crate) enum Unfit {
    TooDeep,
    TooBig,
    Exhausted,
}

/// Writes the value on top of the stack, which stays there. `spoken` is what the script chose with `redis.setresp`; the reply
/// is no longer than `bytes_max`.
pub(crate) fn write_reply(
    s: Stack,
    spoken: Protocol,
    bytes_max: usize,
    reply: &mut Reply,
) -> Result<(), Unfit> {
    let mark = reply.mark();
    let result = Writer { s, spoken, end: mark + bytes_max }.value(reply, 0);
    if result.is_err() {
        reply.rewind(mark);
    }
    result
}

/// Writes an error whose text has its code in front, as an error of one line.
pub(crate) fn write_error(reply: &mut Reply, text: &[u8]) {
    let mut text = text;
    while let [rest @ .., b'\r' | b'\n'] = text {
        text = rest;
    }
    write_line(reply, b'-', text);
}

/// A line of the protocol; line breaks in it become blanks.
fn write_line(reply: &mut Reply, tag: u8, text: &[u8]) {
    let mut line = Vec::with_capacity(text.len() + 3);
    line.push(tag);
    line.extend(text.iter().map(|c| if matches!(c, b'\r' | b'\n') { b' ' } else { *c }));
    line.extend_from_slice(b"\r\n");
    reply.raw(&line);
}

struct Writer {
    s: Stack,
    spoken: Protocol,
    end: usize,
}

impl Writer {
    /// Writes the value on top, which stays there.
    fn value(&self, reply: &mut Reply, depth: usize) -> Result<(), Unfit> {
        let s = self.s;
        s.work(2).map_err(|_| Unfit::Exhausted)?;
        if depth > NESTING_MAX || !s.try_reserve(4) {
            return Err(Unfit::TooDeep);
        }
        match s.kind(-1) {
            Kind::String => {
                let text = s.string(-1).expect("its kind is String");
                if reply.mark() + text.len() > self.end {
                    return Err(Unfit::TooBig);
                }
                reply.bulk(text);
            }
            Kind::Boolean => match (self.spoken, s.boolean(-1)) {
                (Protocol::Resp3, value) => reply.boolean(value),
                (Protocol::Resp2, true) => reply.int(1),
                (Protocol::Resp2, false) => reply.null(),
            },
            Kind::Number => reply.int(to_integer(s.number(-1).expect("its kind is Number"))),
            Kind::Table => self.table(reply, depth)?,
            _ => reply.null(),
        }
        if reply.mark() > self.end { Err(Unfit::TooBig) } else { Ok(()) }
    }

    /// A table stands for what one of these fields says, else it is an array up to its first nil.
    fn table(&self, reply: &mut Reply, depth: usize) -> Result<(), Unfit> {
        let s = self.s;
        if self.field("err", Kind::String, |text| {
            write_error(reply, text.string(-1).expect("its kind is String"));
            Ok(())
        })? || self.field("ok", Kind::String, |text| {
            write_line(reply, b'+', text.string(-1).expect("its kind is String"));
            Ok(())
        })? || self.field("double", Kind::Number, |number| {
            reply.double(number.number(-1).expect("its kind is Number"));
            Ok(())
        })? || self.field("map", Kind::Table, |_| self.pairs(reply, depth, false))?
            || self.field("set", Kind::Table, |_| self.pairs(reply, depth, true))?
            || self.field("big_number", Kind::String, |text| {
                let text = text.string(-1).expect("its kind is String");
                match reply.protocol() {
                    Protocol::Resp2 => reply.bulk(text),
                    Protocol::Resp3 => write_line(reply, b'(', text),
                }
                Ok(())
            })?
            || self.field("verbatim_string", Kind::Table, |_| self.verbatim(reply))?
        {
            return Ok(());
        }
        self.array(reply, depth, s)
    }

    /// Writes field `name` of the table on top with `write`, which finds it on top, if it is of `kind`.
    fn field(
        &self,
        name: &str,
        kind: Kind,
        write: impl FnOnce(Stack) -> Result<(), Unfit>,
    ) -> Result<bool, Unfit> {
        self.s.get_field(-1, name);
        let found = self.s.kind(-1) == kind;
        if found {
            write(self.s)?;
        }
        self.s.pop(1);
        Ok(found)
    }

    fn array(&self, reply: &mut Reply, depth: usize, s: Stack) -> Result<(), Unfit> {
        let mut len = 0;
        loop {
            s.work(1).map_err(|_| Unfit::Exhausted)?;
            s.get_index(-1, len + 1);
            let end = s.kind(-1) == Kind::Nil;
            s.pop(1);
            if end {
                break;
            }
            len += 1;
        }
        reply.array(len as usize);
        for index in 1..=len {
            s.get_index(-1, index);
            self.value(reply, depth + 1)?;
            s.pop(1);
        }
        Ok(())
    }

    /// The entries of the table on top as a map, or its keys as a set.
    fn pairs(&self, reply: &mut Reply, depth: usize, keys_only: bool) -> Result<(), Unfit> {
        let s = self.s;
        let mut len = 0;
        s.push_nil();
        while s.next(-2) {
            s.work(1).map_err(|_| Unfit::Exhausted)?;
            s.pop(1);
            len += 1;
        }
        if keys_only {
            reply.set(len)
        } else {
            reply.map(len)
        }
        s.push_nil();
        while s.next(-2) {
            s.push_copy(-2);
            self.value(reply, depth + 1)?;
            s.pop(1);
            if !keys_only {
                self.value(reply, depth + 1)?;
            }
            s.pop(1);
        }
        Ok(())
    }

    /// A verbatim string: text, and three letters of format.
    fn verbatim(&self, reply: &mut Reply) -> Result<(), Unfit> {
        let s = self.s;
        s.get_field(-1, "format");
        s.get_field(-2, "string");
        let format = s.string(-2).unwrap_or(b"txt");
        let text = s.string(-1).unwrap_or_default();
        if reply.mark() + text.len() > self.end {
            return Err(Unfit::TooBig);
        }
        match reply.protocol() {
            Protocol::Resp2 => reply.bulk(text),
            Protocol::Resp3 => {
                let mut letters = [b' '; 3];
                letters.iter_mut().zip(format).for_each(|(letter, given)| *letter = *given);
                reply.raw(format!("={}\r\n", text.len() + 4).as_bytes());
                reply.raw(&letters);
                reply.raw(b":");
                reply.raw(text);
                reply.raw(b"\r\n");
            }
        }
        s.pop(2);
        Ok(())
    }
}
