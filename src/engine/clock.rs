//! Milliseconds, natively and in browsers.

/// Measures from its start, or from its last lap.
pub struct Stopwatch(f64);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(now())
    }

    /// Milliseconds so far.
    pub fn elapsed(&self) -> f64 {
        now() - self.0
    }

    /// Milliseconds so far; starts again.
    pub fn lap(&mut self) -> f64 {
        let elapsed = self.elapsed();
        *self = Self::start();
        elapsed
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn now() -> f64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64() * 1e3
}

/// `performance.now()` of a page or a worker, through the global object since both have one.
#[cfg(target_arch = "wasm32")]
fn now() -> f64 {
    use wasm_bindgen::{JsCast, JsValue};
    let performance = js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("performance")).ok();
    let performance = performance.and_then(|p| p.dyn_into::<web_sys::Performance>().ok());
    performance.map_or_else(js_sys::Date::now, |p| p.now())
}
