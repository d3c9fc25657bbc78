//! Requests that wait for a free place: bounded in number and time, the important first.
//!
//! While a queue empties now and then it is first in, first out. Once it has stood for a while there is more than can be
//! done, and waiting makes it worse: then a request waits for the shorter `target` only, and the newest goes first, since
//! who waited long has mostly given up (CoDel, ACM Queue 2012; adaptive LIFO, "Fail at Scale", ACM Queue 2015).
//!
//! INV-GATE-8: a queue never holds more than its size, and none in it has waited for longer than its time when it is served.

use std::collections::VecDeque;

use skep_base::Micros;

use crate::config::resilience::{self as config, Priority};

/// As many as there are values of [`Priority`].
pub(crate) const CLASSES: usize = 4;

/// Why a request was turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shed {
    /// The queue is full of requests that are as important.
    Full,
    /// It waited for as long as it may.
    Late,
}

/// A queue of `T`.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    /// By importance, each in the order of coming.
    waiting: [VecDeque<(Micros, T)>; CLASSES],
    length: usize,
    /// Since when it has not been empty, nor at rest.
    busy_since: Option<Micros>,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { waiting: Default::default(), length: 0, busy_since: None }
    }
}

impl<T: Copy + PartialEq> Queue<T> {
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// Lets `it` wait. Returns who is turned away for it, which may be itself.
    pub fn push(&mut self, now: Micros, rule: &config::Queue, priority: Priority, it: T) -> Option<T> {
        let class = priority as usize;
        let mut turned_away = None;
        if self.length >= rule.size as usize {
            let least = (0..CLASSES).rev().find(|c| !self.waiting[*c].is_empty());
            match least {
                // The newest of the least important, which has waited the least.
                Some(least) if least > class => {
                    turned_away = self.waiting[least].pop_back().map(|(_, it)| it);
                    self.length -= 1;
                }
                _ => return Some(it),
            }
        }
        self.waiting[class].push_back((now, it));
        self.length += 1;
        self.busy_since.get_or_insert(now);
        turned_away
    }

    /// The next to be served; those that waited too long must have been taken out by [`Queue::shed`] before.
    pub fn pop(&mut self, now: Micros, rule: &config::Queue) -> Option<T> {
        let it = self.peek(now, rule)?;
        self.remove(it);
        Some(it)
    }

    /// Who is served next.
    pub fn peek(&self, now: Micros, rule: &config::Queue) -> Option<T> {
        self.nth(now, rule, 0)
    }

    /// Who is served after `before` others.
    pub fn nth(&self, now: Micros, rule: &config::Queue, before: usize) -> Option<T> {
        let mut left = before;
        let class = self.waiting.iter().find(|class| {
            let is_here = left < class.len();
            left -= if is_here { 0 } else { class.len() };
            is_here
        })?;
        let at = if self.stands(now, rule) { class.len() - 1 - left } else { left };
        let (since, it) = class[at];
        assert!(now.since(since) <= rule.time, "INV-GATE-8: it waited since {since:?}, and it is {now:?}");
        Some(it)
    }

    /// Beside other queues: the class of who is served next (the smaller, the more important), and since when the one of it has waited
    /// that has waited longest. The smaller, the sooner it is this queue's turn.
    pub fn rank(&self) -> Option<(usize, Micros)> {
        self.waiting.iter().enumerate().find_map(|(class, waiting)| Some((class, waiting.front()?.0)))
    }

    /// All that wait, each with its rank among those of other queues, by that.
    pub fn by_rank(&self) -> impl Iterator<Item = ((usize, Micros), T)> {
        let classes = self.waiting.iter().enumerate();
        classes.flat_map(|(class, waiting)| waiting.iter().map(move |(since, it)| ((class, *since), *it)))
    }

    /// Nobody waits for want of places in general: it does not stand until the next comes, at the least.
    pub fn rest(&mut self) {
        self.busy_since = None;
    }

    /// Takes out one that waited too long, if there is one.
    pub fn shed(&mut self, now: Micros, rule: &config::Queue) -> Option<T> {
        let longest = self.longest(now, rule);
        let class = self.waiting.iter_mut().rev();
        let class = { class }.find(|c| c.front().is_some_and(|(since, _)| now.since(*since) >= longest))?;
        let (_, it) = class.pop_front()?;
        self.removed();
        Some(it)
    }

    /// Takes out one that waits no more; true if it was there.
    pub fn remove(&mut self, it: T) -> bool {
        for class in &mut self.waiting {
            // Who is served is at one of the ends.
            if class.back().is_some_and(|(_, other)| *other == it) {
                class.pop_back();
                self.removed();
                return true;
            }
            if let Some(at) = class.iter().position(|(_, other)| *other == it) {
                class.remove(at);
                self.removed();
                return true;
            }
        }
        false
    }

    /// When [`Queue::shed`] has something to do.
    pub fn next_wakeup(&self, now: Micros, rule: &config::Queue) -> Option<Micros> {
        let oldest = self.waiting.iter().filter_map(|class| class.front()).map(|(since, _)| *since).min()?;
        let due = oldest.plus(self.longest(now, rule));
        // The queue becomes a standing one in between, and its limit of time shorter.
        let stands = self.busy_since.map(|since| since.plus(rule.standing)).filter(|at| *at > now);
        Some(stands.map_or(due, |at| due.min(at.max(oldest.plus(rule.target)))))
    }

    fn longest(&self, now: Micros, rule: &config::Queue) -> Micros {
        if self.stands(now, rule) { rule.target } else { rule.time }
    }

    fn stands(&self, now: Micros, rule: &config::Queue) -> bool {
        self.busy_since.is_some_and(|since| now.since(since) >= rule.standing)
    }

    fn removed(&mut self) {
        self.length -= 1;
        if self.length == 0 {
            self.busy_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(size: u32) -> config::Queue {
        config::Queue { size, ..config::Queue::default() }
    }

    const AT: fn(u64) -> Micros = Micros::from_millis;

    #[test]
    fn the_important_are_served_first_and_the_least_important_turned_away() {
        let (mut queue, rule) = (Queue::default(), rule(4));
        for (priority, it, away) in [
            (Priority::Normal, 1, None),
            (Priority::Low, 2, None),
            (Priority::Low, 3, None),
            (Priority::High, 4, None),
            (Priority::Low, 5, Some(5)),
            (Priority::Normal, 6, Some(3)),
            (Priority::Critical, 7, Some(2)),
            (Priority::High, 8, Some(6)),
            (Priority::Normal, 9, Some(9)),
        ] {
            assert_eq!(queue.push(AT(0), &rule, priority, it), away, "{it}");
        }
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop(AT(1), &rule)).collect();
        assert_eq!(order, [7, 4, 8, 1]);
        let none = config::Queue { size: 0, ..rule };
        assert_eq!(queue.push(AT(0), &none, Priority::Critical, 1), Some(1));
    }

    #[test]
    fn who_is_passed_over_keeps_its_turn() {
        let (mut queue, rule) = (Queue::default(), rule(10));
        for (priority, it) in [(Priority::Normal, 1), (Priority::Normal, 2), (Priority::High, 3)] {
            queue.push(AT(0), &rule, priority, it);
        }
        let order = |queue: &Queue<i32>, now| [0, 1, 2, 3].map(|before| queue.nth(now, &rule, before));
        assert_eq!(order(&queue, AT(1)), [Some(3), Some(1), Some(2), None]);
        assert_eq!(order(&queue, AT(500)), [Some(3), Some(2), Some(1), None], "it stands");
        queue.rest();
        assert_eq!(
            order(&queue, AT(500)),
            [Some(3), Some(1), Some(2), None],
            "none was kept back for want of places"
        );
        queue.remove(3);
        assert_eq!(order(&queue, AT(1)), [Some(1), Some(2), None, None]);
    }

    #[test]
    fn a_burst_is_served_in_order_and_a_standing_queue_newest_first_and_briefly() {
        let (mut queue, rule) = (Queue::default(), rule(1_000));
        (0..10).for_each(|n| _ = queue.push(AT(n), &rule, Priority::Normal, n));
        assert_eq!(queue.shed(AT(400), &rule), None, "a burst may wait for a second");
        assert_eq!(queue.pop(AT(400), &rule), Some(0));
        assert_eq!(queue.next_wakeup(AT(400), &rule), Some(AT(500)));
        (0..5).for_each(|n| _ = queue.push(AT(480 + n), &rule, Priority::Normal, 100 + n));
        let shed: Vec<u64> = std::iter::from_fn(|| queue.shed(AT(500), &rule)).collect();
        assert_eq!(shed, (1..10).collect::<Vec<_>>(), "those beyond the target");
        assert_eq!(queue.pop(AT(510), &rule), Some(104), "newest first");
        assert_eq!(queue.next_wakeup(AT(510), &rule), Some(AT(530)));
        assert!(queue.remove(101) && !queue.remove(101) && queue.len() == 3);
        (0..3).for_each(|_| _ = queue.pop(AT(515), &rule));
        assert!(queue.is_empty() && queue.next_wakeup(AT(515), &rule).is_none());
        queue.push(AT(600), &rule, Priority::Normal, 7);
        queue.push(AT(601), &rule, Priority::Normal, 8);
        assert_eq!(queue.pop(AT(610), &rule), Some(7), "it was empty, so it is a burst again");
    }
}
