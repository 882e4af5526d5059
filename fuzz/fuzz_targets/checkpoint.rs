//! The reader of models on any bytes: a model or an error, never a panic or memory without end.
//!
//! The input is `config.json`, a byte 0 and `model.safetensors`.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run checkpoint -- -rss_limit_mb=1024
//! ```

#![no_main]

use forgetting_laws::checkpoint::{CONFIG, Checkpoint, WEIGHTS};
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let middle = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (config, weights) = (&data[..middle], &data[(middle + 1).min(data.len())..]);
    fs::write(folder.path().join(CONFIG), config).expect("a written file");
    fs::write(folder.path().join(WEIGHTS), weights).expect("a written file");
    if let Ok(model) = Checkpoint::read(folder.path()) {
        let written = folder.path().join("again");
        fs::create_dir(&written).expect("a folder");
        model.write(&written, None).expect("a model that was read can be written");
        let again = Checkpoint::read(&written).expect("what was written can be read");
        assert_eq!(again.shape, model.shape);
    }
});
