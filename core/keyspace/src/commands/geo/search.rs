//! The searches: finding, sorting, and replying or storing.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::request::{Form, Request, Sort};
use super::{write_distance, write_place};
use crate::context::{ReadCx, WriteCx};
use crate::events::Class;
use crate::geohash::Point;
use crate::types::{Member, ZSet};

pub fn georadius(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    search_and_store(cx, Form::Radius { may_store: true }, args, reply)
}

pub fn georadius_ro(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    search(cx, Form::Radius { may_store: false }, args, reply)
}

pub fn georadiusbymember(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    search_and_store(cx, Form::ByMember { may_store: true }, args, reply)
}

pub fn georadiusbymember_ro(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    search(cx, Form::ByMember { may_store: false }, args, reply)
}

pub fn geosearch(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    search(cx, Form::Search, args, reply)
}

pub fn geosearchstore(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    search_and_store(cx, Form::SearchStore, args, reply)
}

/// A member within the shape.
struct Found<'a> {
    member: &'a Member,
    point: Point,
    /// From the centre, in metres.
    distance: f64,
}

fn search(cx: &mut ReadCx, form: Form, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let zset = cx.read::<ZSet>(&args[1])?;
    let request = Request::parse(form, args, zset)?;
    write_found(reply, &request, &find(zset, &request));
    Ok(())
}

/// For the forms that may store; those without a key to store at only reply.
fn search_and_store(cx: &mut WriteCx, form: Form, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let source = &args[if form == Form::SearchStore { 2 } else { 1 }];
    let zset = cx.read_value::<ZSet>(source)?;
    let request = Request::parse(form, args, zset)?;
    let found = find(zset, &request);
    let Some(target) = request.store else {
        write_found(reply, &request, &found);
        return Ok(());
    };
    let score = |f: &Found| if request.store_dist { f.distance / request.unit } else { f.member.score };
    let result: ZSet =
        found.iter().map(|f| Member { name: f.member.name.clone(), score: score(f) }).collect();
    reply.len(result.len());
    let name = if form == Form::SearchStore { "geosearchstore" } else { "georadiusstore" };
    cx.store(target, result.canonical(), Class::SortedSet, name);
    Ok(())
}

/// What the request asks for, in its order. Cost: O(log n + members in the cells around), and sorting.
fn find<'a>(zset: Option<&'a ZSet>, request: &Request) -> Vec<Found<'a>> {
    let (Some(zset), Some(shape)) = (zset, request.shape) else {
        return Vec::new();
    };
    let limit = if request.any { request.count } else { usize::MAX };
    let cells = shape.cover(request.centre);
    let members = cells.flat_map(|scores| {
        let start = zset.rank_by_score(|s| s < scores.start);
        let end = zset.rank_by_score(|s| s < scores.end);
        zset.range(start..end, false)
    });
    let within = |member: &'a Member| {
        let point = Point::from_score(member.score);
        let distance = shape.distance_within(request.centre, point)?;
        Some(Found { member, point, distance })
    };
    let mut found: Vec<Found> = members.filter_map(within).take(limit).collect();
    if let Some(sort) = request.sort {
        // Stable, so that equal distances stay in the order of the cells.
        found.sort_by(|a, b| match sort {
            Sort::Ascending => a.distance.total_cmp(&b.distance),
            Sort::Descending => b.distance.total_cmp(&a.distance),
        });
    }
    if request.count > 0 {
        found.truncate(request.count);
    }
    found
}

fn write_found(reply: &mut Reply, request: &Request, found: &[Found]) {
    let details =
        [request.with_dist, request.with_hash, request.with_coord].into_iter().filter(|d| *d).count();
    reply.array(found.len());
    for each in found {
        if details > 0 {
            reply.array(1 + details);
        }
        reply.bulk(&each.member.name);
        if request.with_dist {
            write_distance(reply, each.distance / request.unit);
        }
        if request.with_hash {
            reply.int(each.member.score as i64);
        }
        if request.with_coord {
            write_place(reply, each.point);
        }
    }
}
