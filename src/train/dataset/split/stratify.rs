//! Which groups validate, so that each class has its share there.

use crate::random::SplitMix;
use crate::train::dataset::Scan;

/// How often groups are looked at again.
const PASSES: usize = 10;
/// With few groups a single descent often ends far from the best: so many are begun, together over about so many groups.
const MAX_STARTS: usize = 64;
const START_GROUPS: usize = 4096;
/// Differences below this are rounding.
const SAME: f64 = 1e-12;

/// Chooses groups so that validation has about `share` of the samples and of each class's pixels: groups in orders
/// drawn by `seed` change sides as long as that brings the shares closer. `group` is each sample's; the result says of
/// each group whether it validates. With two groups or more, both sides have one.
pub(super) fn choose(group: &[u32], groups: usize, scan: &Scan, share: f64, seed: u64) -> Vec<bool> {
    let classes = scan.pixels.first().map_or(0, Vec::len);
    // Shares of all samples and of all pixels of each class; a group's come one after the other.
    let kinds = classes + 1;
    let mut amounts = vec![0.0f64; groups * kinds];
    let mut totals = vec![0.0f64; kinds];
    for (sample, &group) in group.iter().enumerate() {
        let at = group as usize * kinds;
        let Some(own) = amounts.get_mut(at..at + kinds) else { continue };
        let pixels = scan.pixels.get(sample).map(Vec::as_slice).unwrap_or_default();
        for (kind, amount) in std::iter::once(1.0).chain(pixels.iter().map(|p| *p as f64)).enumerate().take(kinds) {
            own[kind] += amount;
            totals[kind] += amount;
        }
    }
    for own in amounts.chunks_exact_mut(kinds) {
        own.iter_mut().zip(&totals).filter(|(_, t)| **t > 0.0).for_each(|(a, t)| *a /= t);
    }
    let shares = Shares { amounts, occurs: totals.iter().map(|t| *t > 0.0).collect(), share };

    let mut random = SplitMix(seed);
    let mut order: Vec<usize> = (0..groups).collect();
    let mut best: Option<(f64, Vec<bool>)> = None;
    for _ in 0..(START_GROUPS / groups.max(1)).clamp(1, MAX_STARTS) {
        shuffle(&mut order, &mut random);
        let (distance, valid) = shares.descend(&order);
        if best.as_ref().is_none_or(|(least, _)| distance < least - SAME) {
            best = Some((distance, valid));
        }
    }
    best.map(|(_, valid)| valid).unwrap_or_default()
}

struct Shares {
    /// `[group, kind]`: the group's part of all there is of a kind: of all samples, then of each class's pixels.
    amounts: Vec<f64>,
    /// Whether there is any of a kind.
    occurs: Vec<bool>,
    share: f64,
}

impl Shares {
    fn of(&self, group: usize) -> &[f64] {
        let kinds = self.occurs.len();
        &self.amounts[group * kinds..(group + 1) * kinds]
    }

    /// The squared distance from the wanted shares.
    fn distance(&self, have: &[f64]) -> f64 {
        have.iter().zip(&self.occurs).filter(|(_, occurs)| **occurs).map(|(have, _)| (have - self.share).powi(2)).sum()
    }

    /// How much closer the shares come if a group joins (1) or leaves (-1); negative is better.
    fn change(&self, have: &[f64], group: usize, sign: f64) -> f64 {
        let each = have.iter().zip(self.of(group)).zip(&self.occurs).filter(|(_, occurs)| **occurs);
        each.map(|((have, own), _)| (have + sign * own - self.share).powi(2) - (have - self.share).powi(2)).sum()
    }

    /// Lets groups change sides, one after the other, as long as that helps.
    fn descend(&self, order: &[usize]) -> (f64, Vec<bool>) {
        let sign = |valid: bool| if valid { -1.0 } else { 1.0 };
        let mut valid = vec![false; order.len()];
        let mut have = vec![0.0f64; self.occurs.len()];
        let mut on_side = [order.len(), 0];
        for _ in 0..PASSES {
            let mut changed = false;
            for &g in order {
                // The last group of a side stays.
                let last = on_side[usize::from(valid[g])] == 1;
                if !last && self.change(&have, g, sign(valid[g])) < -SAME {
                    have.iter_mut().zip(self.of(g)).for_each(|(h, o)| *h += sign(valid[g]) * o);
                    on_side[usize::from(valid[g])] -= 1;
                    valid[g] = !valid[g];
                    on_side[usize::from(valid[g])] += 1;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        if on_side[1] == 0 && order.len() > 1 {
            // Every group is too large: the one that does least harm.
            let harm = |g: &&usize| self.change(&have, **g, 1.0);
            if let Some(&least) = order.iter().min_by(|a, b| harm(a).total_cmp(&harm(b))) {
                valid[least] = true;
                have.iter_mut().zip(self.of(least)).for_each(|(h, o)| *h += o);
            }
        }
        (self.distance(&have), valid)
    }
}

/// Puts items into an order drawn at random (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T], random: &mut SplitMix) {
    for i in (1..items.len()).rev() {
        items.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_close_and_are_repeatable() {
        let mut random = SplitMix(5);
        let samples = 200;
        let pixels: Vec<Vec<u64>> =
            (0..samples).map(|i| vec![1000, random.next_u64() % 500, if i % 20 == 0 { 100 } else { 0 }, 0]).collect();
        let scan = Scan { pixels, ..Scan::default() };
        let group: Vec<u32> = (0..samples as u32).map(|i| i / 4).collect();
        let valid = choose(&group, 50, &scan, 0.2, 7);
        assert_eq!(valid, choose(&group, 50, &scan, 0.2, 7));
        assert_ne!(valid, choose(&group, 50, &scan, 0.2, 8));
        let chosen = scan.totals((0..samples).filter(|i| valid[group[*i] as usize]));
        let all = scan.totals(0..samples);
        for class in 0..3 {
            let share = chosen[class] as f64 / all[class] as f64;
            assert!((share - 0.2).abs() < 0.03, "class {class}: {share}");
        }
    }

    #[test]
    fn both_sides_have_a_group() {
        let scan = Scan { pixels: vec![vec![10, 1]; 2], ..Scan::default() };
        for share in [0.01, 0.2, 0.99] {
            let valid = choose(&[0, 1], 2, &scan, share, 1);
            assert_eq!(valid.iter().filter(|v| **v).count(), 1, "{share}");
        }
        assert_eq!(choose(&[0, 0], 1, &scan, 0.2, 1), [false]);
    }
}
