//! An array that never moves more than a few thousand elements at once, and of which a copy is cheap when it is long.
//!
//! Up to [`SHORT_MAX`] elements it is a `Vec`. A longer one lies in chunks of [`CHUNK`], which copies share: a clone costs a
//! pointer for each chunk, and whoever changes a shared chunk copies that one first. So a cut can hold a large value as it
//! was while commands go on changing it.

use std::ops::Range;
use std::slice;
use std::sync::Arc;

/// Elements of a chunk. Copying one before a change takes some 20 us, holding 10 million elements 10,000 pointers.
pub(crate) const CHUNK: usize = 1024;

/// The longest array in one piece. Growing it moves a quarter of a megabyte at the most.
pub(crate) const SHORT_MAX: usize = 4 * CHUNK;

#[derive(Clone)]
pub(crate) struct Segments<T>(Form<T>);

#[derive(Clone)]
enum Form<T> {
    Short(Vec<T>),
    Long(Box<Long<T>>),
}

#[derive(Clone)]
struct Long<T> {
    /// All are full but the last, which is not empty.
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

const _: () = assert!(size_of::<Segments<u64>>() == size_of::<Vec<u64>>());

impl<T> Default for Segments<T> {
    fn default() -> Segments<T> {
        Segments(Form::Short(Vec::new()))
    }
}

impl<T> Segments<T> {
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Short(elements) => elements.len(),
            Form::Long(long) => long.len,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        match &self.0 {
            Form::Short(elements) => elements.get(at),
            Form::Long(long) => long.chunks.get(at / CHUNK)?.get(at % CHUNK),
        }
    }

    /// All elements if they are in one piece, else none.
    #[inline]
    pub fn short(&self) -> &[T] {
        match &self.0 {
            Form::Short(elements) => elements,
            Form::Long(_) => &[],
        }
    }

    #[inline]
    pub fn iter(&self) -> Iter<'_, T> {
        match &self.0 {
            Form::Short(elements) => Iter::of(elements),
            Form::Long(_) => self.range(0..self.len()),
        }
    }

    /// The elements at these positions, which must be there. Cost: O(1) before the first.
    pub fn range(&self, range: Range<usize>) -> Iter<'_, T> {
        match &self.0 {
            Form::Short(elements) => Iter::of(&elements[range]),
            Form::Long(long) => long.range(range),
        }
    }

    /// Bytes allocated, without what the elements own.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Short(elements) => elements.capacity() * size_of::<T>(),
            Form::Long(long) => {
                let pointers = long.chunks.capacity() * size_of::<Arc<Vec<T>>>();
                long.chunks.len() * CHUNK * size_of::<T>() + pointers + size_of::<Long<T>>()
            }
        }
    }
}

impl<T: Clone> Segments<T> {
    /// `len` times `element`. Cost: O(len / [`CHUNK`]) for a long one, whose chunks are all the same to begin with.
    pub fn filled(element: T, len: usize) -> Segments<T> {
        if len <= SHORT_MAX {
            return Segments(Form::Short(vec![element; len]));
        }
        let full = Arc::new(vec![element.clone(); CHUNK]);
        let mut chunks = vec![full; len / CHUNK];
        if !len.is_multiple_of(CHUNK) {
            chunks.push(Arc::new(vec![element; len % CHUNK]));
        }
        Segments(Form::Long(Box::new(Long { chunks, len })))
    }

    /// Cost: O(1), O([`CHUNK`]) if the element lies in a chunk that a copy shares.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match &mut self.0 {
            Form::Short(elements) => elements.get_mut(at),
            Form::Long(long) => own(long.chunks.get_mut(at / CHUNK)?).get_mut(at % CHUNK),
        }
    }

    #[inline]
    pub fn push(&mut self, element: T) {
        match &mut self.0 {
            Form::Short(elements) if elements.len() < SHORT_MAX => {
                if elements.len() == elements.capacity() {
                    // A quarter more, not double: for most keys the table is the memory, and a slot is small.
                    elements.reserve_exact((elements.len() / 4).max(4));
                }
                elements.push(element);
            }
            Form::Short(elements) => {
                let mut long = Long::new(std::mem::take(elements));
                long.push(element);
                self.0 = Form::Long(Box::new(long));
            }
            Form::Long(long) => long.push(element),
        }
    }

    /// Removes the element at `at`, which must be there; the last one takes its place.
    #[inline]
    pub fn swap_remove(&mut self, at: usize) -> T {
        match &mut self.0 {
            Form::Short(elements) => {
                let element = elements.swap_remove(at);
                // An array that is mostly air gives it back.
                if elements.capacity() > 64 && elements.len() < elements.capacity() / 4 {
                    elements.shrink_to(elements.len() + elements.len() / 4);
                }
                element
            }
            Form::Long(long) => {
                assert!(at < long.len, "element {at} of {} removed", long.len);
                let last = long.pop();
                let element = match long.len {
                    len if at == len => last,
                    _ => std::mem::replace(&mut own(&mut long.chunks[at / CHUNK])[at % CHUNK], last),
                };
                // Not at SHORT_MAX, lest every other change there is a conversion.
                if long.len <= SHORT_MAX / 2 {
                    self.0 = Form::Short(self.iter().cloned().collect());
                }
                element
            }
        }
    }
}

impl<T> Long<T> {
    fn range(&self, range: Range<usize>) -> Iter<'_, T> {
        assert!(range.end <= self.len, "elements up to {} of {}", range.end, self.len);
        let (first, last) = (range.start / CHUNK, range.end / CHUNK);
        if range.is_empty() {
            return Iter::default();
        }
        if first == last {
            return Iter::of(&self.chunks[first][range.start % CHUNK..range.end % CHUNK]);
        }
        let back = match range.end % CHUNK {
            0 => &[],
            partial => &self.chunks[last][..partial],
        };
        Iter {
            front: self.chunks[first][range.start % CHUNK..].iter(),
            chunks: self.chunks[first + 1..last].iter(),
            back: back.iter(),
        }
    }
}

impl<T: Clone> Long<T> {
    fn new(elements: Vec<T>) -> Long<T> {
        let len = elements.len();
        let mut elements = elements.into_iter();
        let mut chunks = Vec::with_capacity(2 * SHORT_MAX / CHUNK);
        while elements.len() > 0 {
            let mut chunk = Vec::with_capacity(CHUNK);
            chunk.extend(elements.by_ref().take(CHUNK));
            chunks.push(Arc::new(chunk));
        }
        Long { chunks, len }
    }

    fn push(&mut self, element: T) {
        self.len += 1;
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => own(last).push(element),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.chunks.push(Arc::new(chunk));
            }
        }
    }

    fn pop(&mut self) -> T {
        let chunk = own(self.chunks.last_mut().expect("a long array has chunks"));
        let element = chunk.pop().expect("no chunk is empty");
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.len -= 1;
        element
    }
}

/// The chunk to be changed; a copy of it if somebody else holds it too.
#[inline]
fn own<T: Clone>(chunk: &mut Arc<Vec<T>>) -> &mut Vec<T> {
    if Arc::strong_count(chunk) > 1 {
        let mut copy = Vec::with_capacity(CHUNK);
        copy.extend_from_slice(chunk);
        *chunk = Arc::new(copy);
    }
    Arc::get_mut(chunk).expect("nobody else holds the chunk")
}

/// Elements in order, from both ends.
#[derive(Clone)]
pub struct Iter<'a, T> {
    front: slice::Iter<'a, T>,
    /// Full ones.
    chunks: slice::Iter<'a, Arc<Vec<T>>>,
    back: slice::Iter<'a, T>,
}

impl<T> Default for Iter<'_, T> {
    fn default() -> Self {
        Iter::of(&[])
    }
}

impl<'a, T> Iter<'a, T> {
    fn of(elements: &'a [T]) -> Iter<'a, T> {
        Iter { front: elements.iter(), chunks: [].iter(), back: [].iter() }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(element) = self.front.next() {
                return Some(element);
            }
            match self.chunks.next() {
                Some(chunk) => self.front = chunk.iter(),
                None => return self.back.next(),
            }
        }
    }

    fn nth(&mut self, mut n: usize) -> Option<&'a T> {
        if n < self.front.len() {
            return self.front.nth(n);
        }
        n -= self.front.len();
        self.front = [].iter();
        let passed = (n / CHUNK).min(self.chunks.len());
        if passed > 0 {
            self.chunks.nth(passed - 1);
            n -= passed * CHUNK;
        }
        match self.chunks.next() {
            Some(chunk) => {
                self.front = chunk.iter();
                self.front.nth(n)
            }
            None => self.back.nth(n),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.front.len() + self.chunks.len() * CHUNK + self.back.len();
        (len, Some(len))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

impl<'a, T> DoubleEndedIterator for Iter<'a, T> {
    #[inline]
    fn next_back(&mut self) -> Option<&'a T> {
        loop {
            if let Some(element) = self.back.next_back() {
                return Some(element);
            }
            match self.chunks.next_back() {
                Some(chunk) => self.back = chunk.iter(),
                None => return self.front.next_back(),
            }
        }
    }

    fn nth_back(&mut self, mut n: usize) -> Option<&'a T> {
        if n < self.back.len() {
            return self.back.nth_back(n);
        }
        n -= self.back.len();
        self.back = [].iter();
        let passed = (n / CHUNK).min(self.chunks.len());
        if passed > 0 {
            self.chunks.nth_back(passed - 1);
            n -= passed * CHUNK;
        }
        match self.chunks.next_back() {
            Some(chunk) => {
                self.back = chunk.iter();
                self.back.nth_back(n)
            }
            None => self.front.nth_back(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;

    fn same(array: &Segments<u64>, model: &[u64], rng: &mut Rng) {
        assert_eq!(array.len(), model.len());
        assert!(array.iter().eq(model), "forwards");
        assert!(array.iter().rev().eq(model.iter().rev()), "backwards");
        let end = rng.below(model.len() as u64 + 1) as usize;
        let start = rng.below(end as u64 + 1) as usize;
        let (mut found, mut expected) = (array.range(start..end), model[start..end].iter());
        assert!(found.clone().eq(expected.clone()));
        while expected.len() > 0 {
            let n = rng.below(3_000) as usize;
            match rng.below(4) {
                0 => assert_eq!(found.nth(n), expected.nth(n)),
                1 => assert_eq!(found.nth_back(n), expected.nth_back(n)),
                2 => assert_eq!(found.next(), expected.next()),
                _ => assert_eq!(found.next_back(), expected.next_back()),
            }
            assert_eq!(found.len(), expected.len());
        }
    }

    #[test]
    fn behaves_as_a_vec_and_copies_stay_as_they_were() {
        for seed in 0..12 {
            let mut rng = Rng::new(seed);
            let mut model: Vec<u64> = vec![7; rng.below(3 * SHORT_MAX as u64) as usize];
            let mut array = Segments::filled(7, model.len());
            let mut copies = Vec::new();
            for step in 0..40_000u64 {
                let at = rng.below(model.len() as u64 + 1) as usize;
                let growing = !(15_000..30_000).contains(&step);
                match rng.below(8) {
                    0..3 => {
                        array.push(step);
                        model.push(step);
                    }
                    3..7 if growing => {
                        assert_eq!(
                            array.get_mut(at).map(|e| std::mem::replace(e, step)),
                            model.get(at).copied()
                        );
                        model.get_mut(at).into_iter().for_each(|e| *e = step);
                    }
                    _ if at < model.len() => assert_eq!(array.swap_remove(at), model.swap_remove(at)),
                    _ => assert_eq!(array.get(at), None),
                }
                if rng.one_in(5_000) {
                    copies.push((array.clone(), model.clone()));
                    same(&array, &model, &mut rng);
                }
            }
            copies.push((array, model));
            copies.iter().for_each(|(array, model)| same(array, model, &mut rng));
        }
    }
}
