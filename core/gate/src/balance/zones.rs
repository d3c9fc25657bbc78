//! Zones: how much of a gateway's traffic stays in its own.
//!
//! As in Envoy's zone-aware routing: all of it, if the zone has at least as large a part of the upstreams as of the
//! gateways; else as much as makes every upstream equally loaded, the rest going to zones in proportion to what they have
//! to spare.

/// Shares of the traffic by zone, in millionths.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ZoneShares(Vec<(String, u32)>);

/// Shares for a gateway in `own`: `gateways` and `upstreams` are counts (or weights) by zone. `None` if zones mean nothing:
/// no upstream in the own zone, no word about the gateways, or no other zone.
pub fn shares(own: &str, gateways: &[(String, u32)], upstreams: &[(String, u32)]) -> Option<ZoneShares> {
    let part = |counts: &[(String, u32)], zone: &str| -> f64 {
        let total: u32 = counts.iter().map(|(_, n)| n).sum();
        let of: u32 = counts.iter().filter(|(z, _)| z == zone).map(|(_, n)| n).sum();
        if total == 0 { 0.0 } else { f64::from(of) / f64::from(total) }
    };
    let (ours, there) = (part(gateways, own), part(upstreams, own));
    if ours == 0.0 || there == 0.0 || upstreams.iter().all(|(zone, _)| zone == own) {
        return None;
    }
    if there >= ours {
        return Some(ZoneShares(vec![(own.to_owned(), 1_000_000)]));
    }
    let local = there / ours;
    let spare = |zone: &str| (part(upstreams, zone) - part(gateways, zone)).max(0.0);
    let others: Vec<&String> = upstreams.iter().map(|(zone, _)| zone).filter(|zone| *zone != own).collect();
    let spare_total: f64 = others.iter().map(|zone| spare(zone)).sum();
    let mut shares = vec![(own.to_owned(), (local * 1e6) as u32)];
    for zone in others {
        shares.push((zone.clone(), ((1.0 - local) * spare(zone) / spare_total * 1e6) as u32));
    }
    Some(ZoneShares(shares))
}

impl ZoneShares {
    /// The zone at `point` of `0..1_000_000`.
    pub fn zone(&self, point: u32) -> &str {
        let mut left = point;
        for (zone, share) in &self.0 {
            if left < *share {
                return zone;
            }
            left -= share;
        }
        // What rounding left over stays at home.
        &self.0[0].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u32)]) -> Vec<(String, u32)> {
        of.iter().map(|(zone, n)| ((*zone).to_owned(), *n)).collect()
    }

    #[test]
    fn every_upstream_gets_the_same_load_and_nothing_crosses_zones_needlessly() {
        for (gateways, upstreams) in [
            (vec![("a", 1), ("b", 1)], vec![("a", 2), ("b", 2)]),
            (vec![("a", 2), ("b", 1)], vec![("a", 1), ("b", 3)]),
            (vec![("a", 1), ("b", 1), ("c", 1)], vec![("a", 1), ("b", 5), ("c", 6)]),
            (vec![("a", 1), ("b", 1), ("c", 1)], vec![("a", 4), ("b", 4), ("c", 4)]),
        ] {
            let (gateways, upstreams) = (counts(&gateways), counts(&upstreams));
            let total: u32 = gateways.iter().map(|(_, n)| n).sum();
            for (zone, count) in &upstreams {
                // What all gateways send to this zone, per upstream of it.
                let sent: f64 = gateways
                    .iter()
                    .map(|(own, n)| {
                        let shares = shares(own, &gateways, &upstreams).expect("zones mean something");
                        let of = shares.0.iter().find(|(z, _)| z == zone).map_or(0, |(_, s)| *s);
                        f64::from(*n) / f64::from(total) * f64::from(of) / 1e6
                    })
                    .sum();
                let even = f64::from(*count) / f64::from(upstreams.iter().map(|(_, n)| n).sum::<u32>());
                assert!(
                    (sent / even - 1.0).abs() < 0.001,
                    "{zone} gets {sent} of {even}: {gateways:?} {upstreams:?}"
                );
            }
        }
    }

    #[test]
    fn zones_without_meaning_are_left_alone() {
        let one = counts(&[("a", 1)]);
        assert_eq!(shares("a", &one, &one), None);
        assert_eq!(shares("a", &one, &counts(&[("b", 1)])), None);
        assert_eq!(shares("a", &[], &counts(&[("a", 1), ("b", 1)])), None);
        let all = shares("a", &one, &counts(&[("a", 1), ("b", 9)])).unwrap();
        assert_eq!(all.zone(999_999), "b", "one tenth of the upstreams cannot take all");
    }
}
