//! The browser's bindings: bytes and options in, typed arrays and plain objects out.
//!
//! A thin mirror of [`crate::engine`]: the TypeScript in `www/src` puts downloads, devices, workers and the browser's
//! picture types around it. Every error is a JavaScript `Error` with `code` and, where there is one, `remedy`.

mod error;
mod options;
mod result;
mod segmenter;
mod source;

use wasm_bindgen::prelude::wasm_bindgen;

/// Runs when the module is instantiated: a panic's message goes to the console before the trap.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}
