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

/// Runs when the module is instantiated: a panic's message goes to the console before the trap, and so do burn's errors,
/// which on WebGPU are all that tells of a shader that failed to compile.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
    if log::set_logger(&ConsoleLog).is_ok() {
        log::set_max_level(log::LevelFilter::Error);
    }
}

struct ConsoleLog;

impl log::Log for ConsoleLog {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Error
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            web_sys::console::error_1(&format!("{}: {}", record.target(), record.args()).into());
        }
    }

    fn flush(&self) {}
}
