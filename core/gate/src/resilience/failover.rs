//! From a route's primary pool to its backup and back, without swinging.
//!
//! INV-GATE-9: between two changes at least `after`, or `back_after`, has passed in which the reason held throughout.

use skep_base::Micros;

use crate::config::resilience as config;

/// Which of the two pools of a route serves.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    on_backup: bool,
    /// Since when the primary has been in a state that asks for a change.
    since: Option<Micros>,
}

impl Failover {
    pub fn is_on_backup(&self) -> bool {
        self.on_backup
    }

    /// Takes in that `usable` (0 to 1) of the primary's upstreams are usable. True if that changes the pool.
    pub fn update(&mut self, now: Micros, rule: &config::Failover, usable: f64) -> bool {
        let (asks, wait) = match self.on_backup {
            false => (usable < rule.below.fraction(), rule.after),
            true => (usable >= rule.above.fraction(), rule.back_after),
        };
        if !asks {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        if now.since(since) < wait {
            return false;
        }
        self.on_backup = !self.on_backup;
        self.since = None;
        true
    }

    /// When a change is due if nothing else happens.
    pub fn next_wakeup(&self, rule: &config::Failover) -> Option<Micros> {
        let wait = if self.on_backup { rule.back_after } else { rule.after };
        self.since.map(|since| since.plus(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flapping_primary_changes_the_pool_once() {
        let rule = config::Failover::default();
        let mut failover = Failover::default();
        let mut changes = 0;
        for second in 0..300 {
            let usable = if second % 20 < 10 { 0.0 } else { 1.0 };
            changes += u32::from(failover.update(Micros::from_secs(second), &rule, usable));
        }
        assert_eq!(changes, 1);
        assert!(failover.is_on_backup());
        failover.update(Micros::from_secs(299), &rule, 0.0);
        for second in 300..330 {
            assert!(!failover.update(Micros::from_secs(second), &rule, 1.0), "INV-GATE-9");
        }
        assert_eq!(failover.next_wakeup(&rule), Some(Micros::from_secs(330)));
        assert!(failover.update(Micros::from_secs(330), &rule, 1.0));
        for (usable, on_backup) in [(0.4, false), (0.25, false), (0.24, true), (0.4, true)] {
            failover.update(Micros::from_secs(400), &rule, usable);
            assert_eq!(failover.is_on_backup(), on_backup, "{usable}");
        }
    }
}
