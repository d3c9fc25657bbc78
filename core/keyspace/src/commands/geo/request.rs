//! What a search asks for: the arguments of `GEOSEARCH`, `GEORADIUS` and their relatives, in one type.

use skep_base::{Args, Refusal, number};

use super::{place, unit};
use crate::geohash::{Point, Shape};
use crate::types::ZSet;

/// The six commands that search.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `GEORADIUS`, or without `STORE` as `_RO`.
    Radius {
        may_store: bool,
    },
    /// `GEORADIUSBYMEMBER`.
    ByMember {
        may_store: bool,
    },
    Search,
    SearchStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Ascending,
    Descending,
}

/// A search, all but the set to be searched.
#[derive(Default)]
pub struct Request<'a> {
    pub with_coord: bool,
    pub with_dist: bool,
    pub with_hash: bool,
    /// 0 for all.
    pub count: usize,
    /// Stop at the first `count` found, near or far.
    pub any: bool,
    pub sort: Option<Sort>,
    /// The key for the result.
    pub store: Option<&'a [u8]>,
    /// Store distances instead of geohashes.
    pub store_dist: bool,
    pub centre: Point,
    /// `None` only if there is no set to search.
    pub shape: Option<Shape>,
    /// Metres in the unit of the reply.
    pub unit: f64,
    from: bool,
}

impl<'a> Request<'a> {
    /// Reads the arguments. `zset` is the set to be searched, for the place of a member.
    pub fn parse(form: Form, args: Args<'a>, zset: Option<&ZSet>) -> Result<Request<'a>, Refusal> {
        let mut request = Request { unit: 1.0, ..Request::default() };
        let options = match form {
            Form::Radius { .. } => {
                request.centre = place(&args[2], &args[3])?;
                request.circle(&args[4], &args[5])?;
                6
            }
            Form::ByMember { .. } => {
                // As in Redis, nobody looks at the radius if there is nothing to search.
                if let Some(zset) = zset {
                    request.centre = member(zset, &args[2])?;
                    request.circle(&args[3], &args[4])?;
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => {
                request.store = args.get(1);
                3
            }
        };
        request.options(form, args.from(options), zset)?;
        request.check(form, &args[0])?;
        // The nearest ones, unless any will do.
        if request.count > 0 && !request.any && request.sort.is_none() {
            request.sort = Some(Sort::Ascending);
        }
        Ok(request)
    }

    fn options(&mut self, form: Form, args: Args<'a>, zset: Option<&ZSet>) -> Result<(), Refusal> {
        let search = matches!(form, Form::Search | Form::SearchStore);
        let may_store = matches!(form, Form::Radius { may_store: true } | Form::ByMember { may_store: true });
        let (mut from_member, mut from_place, mut by_radius, mut by_box) = (false, false, false, false);
        let mut at = 0;
        while at < args.len() {
            let left = args.len() - at - 1;
            let is = |word| args.is(at, word);
            let mut taken = 0;
            if is("withdist") {
                self.with_dist = true;
            } else if is("withhash") {
                self.with_hash = true;
            } else if is("withcoord") {
                self.with_coord = true;
            } else if is("any") {
                self.any = true;
            } else if is("asc") {
                self.sort = Some(Sort::Ascending);
            } else if is("desc") {
                self.sort = Some(Sort::Descending);
            } else if is("count") && left >= 1 {
                let count = number::parse_i64(&args[at + 1]).ok_or(Refusal::NotInteger)?;
                self.count = usize::try_from(count)
                    .ok()
                    .filter(|c| *c > 0)
                    .ok_or(Refusal::text("ERR COUNT must be > 0"))?;
                taken = 1;
            } else if (is("store") || is("storedist")) && left >= 1 && may_store {
                self.store = args.get(at + 1);
                self.store_dist = is("storedist");
                taken = 1;
            } else if is("storedist") && form == Form::SearchStore {
                self.store_dist = true;
            } else if is("frommember") && left >= 1 && search && !from_place {
                if let Some(zset) = zset {
                    self.centre = member(zset, &args[at + 1])?;
                }
                from_member = true;
                taken = 1;
            } else if is("fromlonlat") && left >= 2 && search && !from_member {
                self.centre = place(&args[at + 1], &args[at + 2])?;
                from_place = true;
                taken = 2;
            } else if is("byradius") && left >= 2 && search && !by_box {
                self.circle(&args[at + 1], &args[at + 2])?;
                by_radius = true;
                taken = 2;
            } else if is("bybox") && left >= 3 && search && !by_radius {
                self.rectangle(&args[at + 1], &args[at + 2], &args[at + 3])?;
                by_box = true;
                taken = 3;
            } else {
                return Err(Refusal::Syntax);
            }
            at += 1 + taken;
        }
        self.from = from_member || from_place;
        Ok(())
    }

    /// What the options may not be together.
    fn check(&self, form: Form, name: &[u8]) -> Result<(), Refusal> {
        if self.store.is_some() && (self.with_dist || self.with_hash || self.with_coord) {
            let who = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Refusal::format(format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if matches!(form, Form::Search | Form::SearchStore) {
            let name = String::from_utf8_lossy(name);
            if !self.from {
                return Err(Refusal::format(format!(
                    "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
                )));
            }
            if self.shape.is_none() {
                return Err(Refusal::format(format!(
                    "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
                )));
            }
        }
        if self.any && self.count == 0 {
            return Err(Refusal::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn circle(&mut self, radius: &[u8], metres: &[u8]) -> Result<(), Refusal> {
        let radius = number::parse_f64(radius).ok_or(Refusal::text("ERR need numeric radius"))?;
        if radius < 0.0 {
            return Err(Refusal::text("ERR radius cannot be negative"));
        }
        self.unit = unit(metres)?;
        self.shape = Some(Shape::Circle { radius: radius * self.unit });
        Ok(())
    }

    fn rectangle(&mut self, width: &[u8], height: &[u8], metres: &[u8]) -> Result<(), Refusal> {
        let width = number::parse_f64(width).ok_or(Refusal::text("ERR need numeric width"))?;
        let height = number::parse_f64(height).ok_or(Refusal::text("ERR need numeric height"))?;
        if width < 0.0 || height < 0.0 {
            return Err(Refusal::text("ERR height or width cannot be negative"));
        }
        self.unit = unit(metres)?;
        self.shape = Some(Shape::Rectangle { width: width * self.unit, height: height * self.unit });
        Ok(())
    }
}

fn member(zset: &ZSet, name: &[u8]) -> Result<Point, Refusal> {
    let score = zset.score(name).ok_or(Refusal::text("ERR could not decode requested zset member"))?;
    Ok(Point::from_score(score))
}
