//! Which samples of an evaluation are shown.

use crate::train::report::SamplePicture;

/// The pictures that are kept, each with what it is ordered by.
pub(super) struct Shown {
    worst: Vec<((f64, f64), SamplePicture)>,
    even: Vec<((f64, f64), SamplePicture)>,
    /// How many of each, and how far the latter lie apart.
    room: [usize; 2],
    step: usize,
}

impl Shown {
    /// Of `all` chips, `pictures`.
    pub fn new(pictures: usize, all: usize) -> Self {
        let worst = (2 * pictures).div_ceil(3).min(all);
        let even = pictures - worst.min(pictures);
        Self { worst: Vec::new(), even: Vec::new(), room: [worst, even], step: all.div_ceil(even.max(1)).max(1) }
    }

    /// Keeps chip number `done`, or one that it is worse than, or neither.
    pub fn offer(&mut self, done: usize, badness: (f64, f64), picture: impl FnOnce() -> SamplePicture) {
        let place = self.worst.partition_point(|(other, _)| *other <= badness);
        let displaced = if place < self.room[0] {
            self.worst.insert(place, (badness, picture()));
            // It was kept as one of the worst until now.
            if self.worst.len() > self.room[0] { self.worst.pop() } else { None }
        } else if self.is_next(done) {
            Some((badness, picture()))
        } else {
            None
        };
        if self.is_next(done) {
            self.even.extend(displaced);
        }
    }

    /// Whether a picture is due among those that are spread evenly.
    fn is_next(&self, done: usize) -> bool {
        self.even.len() < self.room[1] && done >= self.even.len() * self.step
    }

    /// Them, the worst first.
    pub fn finish(self) -> Vec<SamplePicture> {
        let mut all = self.worst;
        all.extend(self.even);
        all.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        all.into_iter().map(|(_, picture)| picture).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_are_shown_first_and_others_beside_them() {
        let badness = |i: usize| (((i * 7) % 30) as f64 / 30.0, 0.0);
        let picture = |i: usize| SamplePicture { name: i.to_string(), ..SamplePicture::default() };
        for pictures in [0, 1, 3, 9, 30, 50] {
            let mut shown = Shown::new(pictures, 30);
            (0..30).for_each(|i| shown.offer(i, badness(i), || picture(i)));
            let names: Vec<usize> = shown.finish().iter().map(|p| p.name.parse().expect("a number")).collect();
            assert_eq!(names.len(), pictures.min(30), "{names:?}");
            assert!(names.is_sorted_by(|a, b| badness(*a) < badness(*b)), "{names:?}");
            let worst = (2 * pictures).div_ceil(3).min(30);
            assert!(
                names.iter().take(worst).enumerate().all(|(n, i)| badness(*i) == (n as f64 / 30.0, 0.0)),
                "{names:?}"
            );
        }
    }
}
