//! The jobs of a queue by id and by number.
//!
//! They lie in a dense map as the elements of other collections do, so that a cut holds a million of them at the cost of some
//! thousand pointers. Orders beside it name jobs by number, which never changes, so that only this index follows when a
//! removal moves a job.

use skep_base::rng::mix;

use super::job::Job;
use crate::dense::DenseMap;
use crate::index::Index;
use crate::segments::Segments;

#[derive(Clone, Default)]
pub struct Jobs {
    map: DenseMap<Job>,
    /// Positions by [`mix`] of the number.
    by_number: Index,
}

impl Jobs {
    #[inline]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn map(&self) -> &DenseMap<Job> {
        &self.map
    }

    pub fn entries(&self) -> &Segments<Job> {
        self.map.entries()
    }

    #[inline]
    pub fn position(&self, id: &[u8]) -> Option<usize> {
        self.map.position(id)
    }

    #[inline]
    pub fn find(&self, number: u64) -> Option<usize> {
        let is_it = |at: u32| self.map.at(at as usize).is_some_and(|job| job.number == number);
        self.by_number.find(mix(number), is_it).map(|at| at as usize)
    }

    /// The job of a number that an order holds.
    #[inline]
    pub fn of(&self, number: u64) -> &Job {
        let at = self.find(number).expect("orders hold numbers of jobs");
        self.at(at)
    }

    /// Panics past the end.
    #[inline]
    pub fn at(&self, at: usize) -> &Job {
        self.map.at(at).expect("a position of a job")
    }

    /// The caller changes neither id nor number. Panics past the end.
    #[inline]
    pub fn at_mut(&mut self, at: usize) -> &mut Job {
        self.map.at_mut(at).expect("a position of a job")
    }

    /// Adds a job whose id and number are new, and gives its position.
    pub fn insert(&mut self, job: Job) -> usize {
        let hash = mix(job.number);
        let at = self.map.insert_new(job);
        self.by_number.insert(hash, at as u32, hash_in(&self.map));
        at
    }

    /// Removes the job at a position. The last one takes its place.
    pub fn remove_at(&mut self, at: usize) -> Job {
        let last = self.map.len() - 1;
        let (own, of_last) = (mix(self.at(at).number), mix(self.at(last).number));
        self.by_number.remove(own, at as u32);
        if at != last {
            self.by_number.replace(of_last, last as u32, at as u32);
        }
        let job = self.map.remove_at(at);
        self.by_number.settle(hash_in(&self.map));
        job
    }

    /// Bytes allocated, without what the jobs own.
    pub fn heap_bytes(&self) -> usize {
        self.map.heap_bytes() + self.by_number.heap_bytes()
    }

    /// Panics if map and index disagree. Cost: O(n).
    pub fn assert_invariants(&self) {
        self.map.assert_invariants();
        assert_eq!(self.by_number.len(), self.map.len(), "jobs indexed by number");
        for (at, job) in self.map.iter().enumerate() {
            assert_eq!(self.find(job.number), Some(at), "position of job {}", job.number);
        }
    }
}

fn hash_in(map: &DenseMap<Job>) -> impl Fn(u32) -> u64 {
    |at| mix(map.at(at as usize).expect("the index holds positions of jobs").number)
}
