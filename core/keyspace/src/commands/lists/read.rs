//! Reading lists.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use crate::commands::parse;
use crate::context::ReadCx;
use crate::types::{End, List};

pub fn llen(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.read::<List>(&args[1])?.map_or(0, List::len));
    Ok(())
}

pub fn lrange(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (start, end) = (parse::int(&args[2])?, parse::int(&args[3])?);
    let Some(list) = cx.read::<List>(&args[1])? else {
        reply.array(0);
        return Ok(());
    };
    let range = parse::positions(start, end, list.len());
    reply.array(range.len());
    list.iter_from(range.start).take(range.len()).for_each(|element| reply.bulk(element));
    Ok(())
}

pub fn lindex(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let Some(list) = cx.read::<List>(&args[1])? else {
        reply.null();
        return Ok(());
    };
    let at = parse::position(parse::int(&args[2])?, list.len());
    reply.bulk_or_null(at.and_then(|at| list.get(at)));
    Ok(())
}

/// How `LPOS` looks.
struct Search {
    from: End,
    /// Matches passed over before the first that counts.
    skip: usize,
    /// `COUNT`: an array of at most so many positions, 0 for all. Without it one position.
    count: Option<usize>,
    /// Elements looked at, 0 for all.
    len_max: usize,
}

pub fn lpos(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let search = Search::parse(args.from(3))?;
    let found = match cx.read::<List>(&args[1])? {
        Some(list) => search.run(list, &args[2]),
        None => Vec::new(),
    };
    if search.count.is_some() {
        reply.array(found.len());
        found.iter().for_each(|at| reply.len(*at));
    } else {
        match found.first() {
            Some(at) => reply.len(*at),
            None => reply.null(),
        }
    }
    Ok(())
}

impl Search {
    fn parse(args: Args) -> Result<Search, Refusal> {
        let mut search = Search { from: End::Left, skip: 0, count: None, len_max: 0 };
        for at in (0..args.len()).step_by(2) {
            let value = args.get(at + 1).ok_or(Refusal::Syntax)?;
            if args.is(at, "rank") {
                search.rank(parse::int_between(value, -i64::MAX, i64::MAX)?)?;
            } else if args.is(at, "count") {
                search.count = Some(parse::at_least(0, value, "ERR COUNT can't be negative")?);
            } else if args.is(at, "maxlen") {
                search.len_max = parse::at_least(0, value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(Refusal::Syntax);
            }
        }
        Ok(search)
    }

    fn rank(&mut self, rank: i64) -> Result<(), Refusal> {
        match rank {
            0 => Err(Refusal::text(
                "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                 or use negative to start from the end of the list",
            )),
            _ => {
                self.from = if rank > 0 { End::Left } else { End::Right };
                self.skip = rank.unsigned_abs() as usize - 1;
                Ok(())
            }
        }
    }

    fn run(&self, list: &List, element: &[u8]) -> Vec<usize> {
        let all_if_zero = |n: usize| if n == 0 { usize::MAX } else { n };
        let looked_at = all_if_zero(self.len_max);
        let wanted = self.count.map_or(1, all_if_zero);
        let equal = |(at, other): (usize, &[u8])| (other == element).then_some(at);
        match self.from {
            End::Left => {
                let matches = list.iter().take(looked_at).enumerate().filter_map(equal);
                matches.skip(self.skip).take(wanted).collect()
            }
            End::Right => {
                let matches = list.iter().rev().take(looked_at).enumerate().filter_map(equal);
                matches.skip(self.skip).take(wanted).map(|at| list.len() - 1 - at).collect()
            }
        }
    }
}
