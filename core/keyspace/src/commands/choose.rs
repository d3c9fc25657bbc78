//! Random positions in dense arrays.

use std::collections::BTreeMap;

use skep_base::Rng;

/// `count` different positions of `0..len` in random order, every choice equally likely; all of them in order if `count`
/// is not below `len`. Cost: O(count log count), whatever `len`.
pub fn distinct(rng: &mut Rng, len: usize, count: usize) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    // Fisher and Yates, over an array that holds its own positions except where `moved` says otherwise.
    let mut moved = BTreeMap::new();
    (0..count)
        .map(|at| {
            let from = at + rng.below((len - at) as u64) as usize;
            let displaced = moved.remove(&at).unwrap_or(at);
            if from == at { displaced } else { moved.insert(from, displaced).unwrap_or(from) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn choices_are_distinct_and_even() {
        let mut rng = Rng::new(3);
        let mut drawn = [0u32; 10];
        let mut first = [0u32; 10];
        for _ in 0..20_000 {
            let positions = distinct(&mut rng, 10, 4);
            assert_eq!(positions.iter().collect::<BTreeSet<_>>().len(), 4, "{positions:?}");
            first[positions[0]] += 1;
            positions.iter().for_each(|p| drawn[*p] += 1);
        }
        assert!(drawn.iter().all(|n| (7_500..8_500).contains(n)), "{drawn:?}");
        assert!(first.iter().all(|n| (1_800..2_200).contains(n)), "{first:?}");
        assert_eq!(distinct(&mut rng, 3, 9), [0, 1, 2]);
    }
}
