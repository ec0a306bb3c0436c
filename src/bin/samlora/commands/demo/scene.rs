//! Drawn scenes that look like aerial pictures, with the class of every pixel.

use samlora::error::Result;
use samlora::image::RgbImage;
use samlora::random::SplitMix;

/// Names and colours of the classes; background is bare ground.
pub const CLASSES: [(&str, [u8; 3]); 5] = [
    ("background", [0, 0, 0]),
    ("building", [213, 94, 0]),
    ("road", [204, 121, 167]),
    ("vegetation", [0, 158, 115]),
    ("water", [86, 180, 233]),
];
const BUILDING: u8 = 1;
const ROAD: u8 = 2;
const VEGETATION: u8 = 3;
const WATER: u8 = 4;

/// A drawn picture and its truth.
pub struct Scene {
    /// The picture, square.
    pub picture: RgbImage,
    /// The class of each pixel, row by row.
    pub labels: Vec<u8>,
}

struct Canvas {
    side: usize,
    colors: Vec<[f32; 3]>,
    labels: Vec<u8>,
    random: SplitMix,
    seed: u64,
}

impl Scene {
    /// Draws a scene of `side` x `side` pixels; the same for the same seed.
    pub fn draw(side: usize, seed: u64) -> Result<Self> {
        let mut canvas = Canvas {
            side,
            colors: vec![[0.0; 3]; side * side],
            labels: vec![0; side * side],
            random: SplitMix(seed.wrapping_mul(0x5851_F42D_4C95_7F2D) + 1),
            seed,
        };
        canvas.fields();
        canvas.river();
        for _ in 0..3 {
            canvas.road();
        }
        for _ in 0..side * side / 6000 {
            canvas.building();
        }
        for _ in 0..side * side / 9000 {
            canvas.tree();
        }
        let grain = |v: f32, r: f32| (v + 5.0 * r).round().clamp(0.0, 255.0) as u8;
        let mut pixels = Vec::with_capacity(side * side * 3);
        for color in &canvas.colors {
            let light = canvas.random.uniform();
            pixels.extend(color.map(|v| grain(v, light)));
        }
        Ok(Self { picture: RgbImage::new(side, side, pixels)?, labels: canvas.labels })
    }
}

impl Canvas {
    /// Uniform in `low .. high`.
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.random.uniform() + 1.0) / 2.0
    }

    fn paint(&mut self, x: usize, y: usize, class: u8, color: [f32; 3]) {
        self.colors[y * self.side + x] = color;
        self.labels[y * self.side + x] = class;
    }

    /// Every pixel for which `inside` gives a class and a colour.
    fn fill(&mut self, mut inside: impl FnMut(f32, f32) -> Option<(u8, [f32; 3])>) {
        let side = self.side;
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            if let Some((class, color)) = inside(x as f32, y as f32) {
                self.paint(x, y, class, color);
            }
        }
    }

    /// Bare ground, and vegetation where a slow noise is high.
    fn fields(&mut self) {
        let seed = self.seed;
        self.fill(|x, y| {
            let (slow, fast) = (noise(x / 90.0, y / 90.0, seed), noise(x / 5.0, y / 5.0, seed + 1));
            Some(if slow > 0.5 {
                let shade = 0.75 + 0.5 * fast;
                (VEGETATION, [72.0 * shade, 108.0 * shade, 56.0 * shade])
            } else {
                let shade = 0.92 + 0.16 * fast;
                (0, [182.0 * shade, 160.0 * shade, 128.0 * shade])
            })
        });
    }

    fn river(&mut self) {
        let side = self.side as f32;
        let (centre, swing) = (self.between(0.15, 0.85) * side, self.between(0.05, 0.15) * side);
        let (phase, width) = (self.between(0.0, 6.0), self.between(14.0, 28.0));
        let seed = self.seed + 2;
        self.fill(|x, y| {
            let bank =
                (x - centre - swing * (y / side * 5.0 + phase).sin()).abs() + 8.0 * noise(x / 20.0, y / 20.0, seed);
            let depth = 0.95 + 0.1 * noise(x / 25.0, y / 25.0, seed);
            (bank < width).then_some((WATER, [54.0 * depth, 88.0 * depth, 112.0 * depth]))
        });
    }

    fn road(&mut self) {
        let side = self.side as f32;
        let (angle, offset) = (self.between(0.0, std::f32::consts::PI), self.between(0.2, 0.8) * side);
        let (half, seed) = (self.between(4.0, 8.0), self.seed + 3);
        let (nx, ny) = (angle.cos(), angle.sin());
        let shift = offset * (nx + ny);
        self.fill(|x, y| {
            let across = x * nx + y * ny - shift;
            let along = y * nx - x * ny;
            let dash = across.abs() < 0.7 && along.rem_euclid(18.0) < 9.0;
            let shade = 0.95 + 0.1 * noise(x / 3.0, y / 3.0, seed);
            let grey = if dash { 205.0 } else { 122.0 * shade };
            (across.abs() < half).then_some((ROAD, [grey, grey, grey * 1.01]))
        });
    }

    /// A rotated house with a ridge and a shadow, on dry ground away from roads.
    fn building(&mut self) {
        let side = self.side as f32;
        let (cx, cy) = (self.between(0.03, 0.97) * side, self.between(0.03, 0.97) * side);
        let (half_x, half_y) = (self.between(9.0, 22.0), self.between(8.0, 16.0));
        let angle = self.between(0.0, 1.5);
        let roof = match self.random.next_u64() % 3 {
            0 => [178.0, 88.0, 64.0],
            1 => [222.0, 220.0, 216.0],
            _ => [150.0, 66.0, 54.0],
        };
        let (sin, cos) = angle.sin_cos();
        let local = |x: f32, y: f32| ((x - cx) * cos + (y - cy) * sin, (y - cy) * cos - (x - cx) * sin);
        let within = |x: f32, y: f32, more: f32| {
            let (u, v) = local(x, y);
            u.abs() < half_x + more && v.abs() < half_y + more
        };
        let taken = (0..self.side * self.side).any(|i| {
            matches!(self.labels[i], BUILDING | ROAD | WATER)
                && within((i % self.side) as f32, (i / self.side) as f32, 4.0)
        });
        if taken {
            return;
        }
        for i in 0..self.side * self.side {
            let (x, y) = ((i % self.side) as f32, (i / self.side) as f32);
            if within(x, y, 0.0) {
                let shade = if local(x, y).1 > 0.0 { 0.86 } else { 1.06 };
                self.paint(i % self.side, i / self.side, BUILDING, roof.map(|c| c * shade));
            } else if within(x - 4.0, y - 4.0, 0.0) {
                self.colors[i] = self.colors[i].map(|c| c * 0.6);
            }
        }
    }

    fn tree(&mut self) {
        let side = self.side as f32;
        let (cx, cy, radius) = (self.between(0.0, side), self.between(0.0, side), self.between(4.0, 8.0));
        for i in 0..self.side * self.side {
            let (dx, dy) = ((i % self.side) as f32 - cx, (i / self.side) as f32 - cy);
            if dx * dx + dy * dy < radius * radius && matches!(self.labels[i], 0 | VEGETATION) {
                let shade = 0.85 - 0.25 * (dx + dy) / radius;
                self.paint(i % self.side, i / self.side, VEGETATION, [54.0 * shade, 92.0 * shade, 46.0 * shade]);
            }
        }
    }
}

/// Value noise, 0 to 1: random numbers on a grid of side 1, smoothly interpolated.
fn noise(x: f32, y: f32, seed: u64) -> f32 {
    let corner = |i: f32, j: f32| {
        let key = seed ^ ((i as i64 as u64) << 32) ^ (j as i64 as u64 & 0xFFFF_FFFF);
        (SplitMix(key.wrapping_mul(0x2545_F491_4F6C_DD1D)).uniform() + 1.0) / 2.0
    };
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (i, j) = (x.floor(), y.floor());
    let (u, v) = (smooth(x - i), smooth(y - j));
    let top = corner(i, j) * (1.0 - u) + corner(i + 1.0, j) * u;
    let bottom = corner(i, j + 1.0) * (1.0 - u) + corner(i + 1.0, j + 1.0) * u;
    top * (1.0 - v) + bottom * v
}
