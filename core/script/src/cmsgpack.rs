//! The `cmsgpack` library: MessagePack, as lua-cmsgpack 0.4 has it in Redis.

use crate::limits::NESTING_MAX;
use crate::lua::{Kind, Native, Raise, Stack};
use crate::structs::canonical;

/// Tables nested deeper are packed as nil, so that one that holds itself comes to an end.
const PACK_NESTING_MAX: usize = 16;

pub(crate) fn open(s: Stack) {
    s.push_table(0, 8);
    let functions: [(&str, Native); 4] =
        [("pack", pack), ("unpack", unpack), ("unpack_one", unpack_one), ("unpack_limit", unpack_limit)];
    for (name, function) in functions {
        s.push_native(function);
        s.set_field(-2, name);
    }
    for (name, text) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        s.push_bytes(text.as_bytes());
        s.set_field(-2, name);
    }
}

// --- Packing ---

fn pack(s: Stack) -> Result<i32, Raise> {
    let count = s.top();
    if count == 0 {
        return Err(s.bad_argument(0, "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for argument in 1..=count {
        s.reserve(1, "in function mp_check")?;
        s.push_copy(argument);
        pack_value(s, &mut out, 0)?;
        s.pop(1);
    }
    s.push_bytes(&out);
    Ok(1)
}

/// Appends the value on top.
fn pack_value(s: Stack, out: &mut Vec<u8>, depth: usize) -> Result<(), Raise> {
    s.work(2)?;
    match s.kind(-1) {
        Kind::String => {
            let text = s.string(-1).expect("its kind is String");
            s.work(text.len() / 16)?;
            s.room(out.len() + text.len())?;
            pack_string(out, text);
        }
        Kind::Boolean => out.push(if s.boolean(-1) { 0xc3 } else { 0xc2 }),
        Kind::Number => pack_number(out, s.number(-1).expect("its kind is Number")),
        Kind::Table if depth < PACK_NESTING_MAX => return pack_table(s, out, depth),
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => pack_head(out, 0xda, (len as u16).to_be_bytes()),
        len => pack_head(out, 0xdb, (len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text);
}

fn pack_head<const N: usize>(out: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn pack_number(out: &mut Vec<u8>, number: f64) {
    let is_integer = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number)
        && number.fract() == 0.0;
    if is_integer {
        return pack_integer(out, number as i64);
    }
    let number = canonical(number);
    let single = number as f32;
    if f64::from(single) == number {
        pack_head(out, 0xca, single.to_be_bytes());
    } else {
        pack_head(out, 0xcb, number.to_be_bytes());
    }
}

fn pack_integer(out: &mut Vec<u8>, n: i64) {
    match n {
        -32..=127 => out.push(n as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => pack_head(out, 0xcd, (n as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => pack_head(out, 0xce, (n as u32).to_be_bytes()),
        0x1_0000_0000.. => pack_head(out, 0xcf, (n as u64).to_be_bytes()),
        -128..=-33 => out.extend_from_slice(&[0xd0, n as u8]),
        -32_768..=-129 => pack_head(out, 0xd1, (n as i16).to_be_bytes()),
        -2_147_483_648..=-32_769 => pack_head(out, 0xd2, (n as i32).to_be_bytes()),
        _ => pack_head(out, 0xd3, n.to_be_bytes()),
    }
}

fn pack_table(s: Stack, out: &mut Vec<u8>, depth: usize) -> Result<(), Raise> {
    s.reserve(4, "in function mp_encode_lua_table")?;
    let (entries, is_array) = count_entries(s)?;
    if is_array {
        match entries {
            0..=15 => out.push(0x90 | entries as u8),
            16..=0xffff => pack_head(out, 0xdc, (entries as u16).to_be_bytes()),
            _ => pack_head(out, 0xdd, (entries as u32).to_be_bytes()),
        }
        for i in 1..=entries {
            s.get_index(-1, i as i32);
            pack_value(s, out, depth + 1)?;
            s.pop(1);
        }
        return Ok(());
    }
    match entries {
        0..=15 => out.push(0x80 | entries as u8),
        16..=0xffff => pack_head(out, 0xde, (entries as u16).to_be_bytes()),
        _ => pack_head(out, 0xdf, (entries as u32).to_be_bytes()),
    }
    s.push_nil();
    while s.next(-2) {
        s.push_copy(-2);
        pack_value(s, out, depth + 1)?;
        s.pop(1);
        pack_value(s, out, depth + 1)?;
        s.pop(1);
    }
    Ok(())
}

/// Entries of the table on top, and whether their keys are 1 to that many.
fn count_entries(s: Stack) -> Result<(usize, bool), Raise> {
    let (mut count, mut largest, mut all_indices) = (0usize, 0f64, true);
    s.push_nil();
    while s.next(-2) {
        s.work(1)?;
        s.pop(1);
        count += 1;
        let key = if s.kind(-1) == Kind::Number { s.number(-1) } else { None };
        match key {
            Some(key) if key > 0.0 && key.fract() == 0.0 => largest = largest.max(key),
            _ => all_indices = false,
        }
    }
    Ok((count, all_indices && largest == count as f64))
}

// --- Unpacking ---

fn unpack(s: Stack) -> Result<i32, Raise> {
    unpack_from(s, None, 0)
}

fn unpack_one(s: Stack) -> Result<i32, Raise> {
    let offset = s.check_integer_or(2, 0)? as i32;
    unpack_from(s, Some(1), offset)
}

fn unpack_limit(s: Stack) -> Result<i32, Raise> {
    let limit = s.check_number(2).map(crate::lua::to_integer)? as i32;
    let offset = s.check_integer_or(3, 0)? as i32;
    // The original takes 0 and 0 for the wish to have all.
    let all = limit == 0 && offset == 0;
    unpack_from(s, (!all).then_some(limit), offset)
}

/// Unpacks all values from `offset` on, or at most `limit` of them behind the offset where they end (-1 for the end).
fn unpack_from(s: Stack, limit: Option<i32>, offset: i32) -> Result<i32, Raise> {
    let data = s.check_string(1)?;
    if offset < 0 || limit.is_some_and(|limit| limit < 0) {
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {}.", data.len());
        return Err(Raise::At(text));
    }
    if offset as usize > data.len() {
        return Err(Raise::At(format!("Start offset {offset} greater than input length {}.", data.len())));
    }
    s.set_top(1);
    let mut cursor = Cursor { s, rest: &data[offset as usize..] };
    let most = limit.unwrap_or(i32::MAX);
    let mut count = 0;
    while !cursor.rest.is_empty() && count < most {
        cursor.value(0)?;
        count += 1;
    }
    if limit.is_none() {
        return Ok(count);
    }
    s.reserve(1, "in function mp_unpack_full")?;
    s.push_number(if cursor.rest.is_empty() { -1.0 } else { (data.len() - cursor.rest.len()) as f64 });
    s.insert(2);
    Ok(count + 1)
}

struct Cursor<'a> {
    s: Stack,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Raise> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Raise::At("Missing bytes in input.".to_owned()));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Raise> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    /// Pushes one value.
    fn value(&mut self, depth: usize) -> Result<(), Raise> {
        let s = self.s;
        s.work(2)?;
        s.reserve(1, "too many return values at once; use unpack_one or unpack_limit instead.")?;
        match self.bytes::<1>()?[0] {
            tag @ 0x00..=0x7f => s.push_number(f64::from(tag)),
            tag @ 0x80..=0x8f => self.map(usize::from(tag & 15), depth)?,
            tag @ 0x90..=0x9f => self.array(usize::from(tag & 15), depth)?,
            tag @ 0xa0..=0xbf => self.string(usize::from(tag & 31))?,
            0xc0 => s.push_nil(),
            0xc2 => s.push_boolean(false),
            0xc3 => s.push_boolean(true),
            0xca => s.push_number(f64::from(f32::from_be_bytes(self.bytes()?))),
            0xcb => s.push_number(f64::from_be_bytes(self.bytes()?)),
            0xcc => s.push_number(f64::from(self.bytes::<1>()?[0])),
            0xcd => s.push_number(f64::from(u16::from_be_bytes(self.bytes()?))),
            0xce => s.push_number(f64::from(u32::from_be_bytes(self.bytes()?))),
            0xcf => s.push_number(u64::from_be_bytes(self.bytes()?) as f64),
            0xd0 => s.push_number(f64::from(self.bytes::<1>()?[0] as i8)),
            0xd1 => s.push_number(f64::from(i16::from_be_bytes(self.bytes()?))),
            0xd2 => s.push_number(f64::from(i32::from_be_bytes(self.bytes()?))),
            0xd3 => s.push_number(i64::from_be_bytes(self.bytes()?) as f64),
            0xd9 => {
                let len = usize::from(self.bytes::<1>()?[0]);
                self.string(len)?;
            }
            0xda => {
                let len = usize::from(u16::from_be_bytes(self.bytes()?));
                self.string(len)?;
            }
            0xdb => {
                let len = u32::from_be_bytes(self.bytes()?) as usize;
                self.string(len)?;
            }
            0xdc => {
                let len = usize::from(u16::from_be_bytes(self.bytes()?));
                self.array(len, depth)?;
            }
            0xdd => {
                let len = u32::from_be_bytes(self.bytes()?) as usize;
                self.array(len, depth)?;
            }
            0xde => {
                let len = usize::from(u16::from_be_bytes(self.bytes()?));
                self.map(len, depth)?;
            }
            0xdf => {
                let len = u32::from_be_bytes(self.bytes()?) as usize;
                self.map(len, depth)?;
            }
            tag @ 0xe0..=0xff => s.push_number(f64::from(tag as i8)),
            _ => return Err(Raise::At("Bad data format in input.".to_owned())),
        }
        Ok(())
    }

    fn string(&mut self, len: usize) -> Result<(), Raise> {
        let text = self.take(len)?;
        self.s.push_bytes(text);
        Ok(())
    }

    fn descend(&self, depth: usize, name: &str) -> Result<(), Raise> {
        if depth >= NESTING_MAX {
            return Err(Raise::At(format!("stack overflow (in function {name})")));
        }
        self.s.reserve(3, &format!("in function {name}"))
    }

    fn array(&mut self, len: usize, depth: usize) -> Result<(), Raise> {
        self.descend(depth, "mp_decode_to_lua_array")?;
        self.s.push_table(0, 0);
        for index in 1..=len {
            self.value(depth + 1)?;
            self.s.set_index(-2, index as i32);
        }
        Ok(())
    }

    fn map(&mut self, len: usize, depth: usize) -> Result<(), Raise> {
        self.descend(depth, "mp_decode_to_lua_hash")?;
        self.s.push_table(0, 0);
        for _ in 0..len {
            self.value(depth + 1)?;
            self.value(depth + 1)?;
            self.s.set(-3)?;
        }
        Ok(())
    }
}
