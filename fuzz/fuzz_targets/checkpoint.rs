//! The reader of models on any bytes: a model or an error in one line, never a panic or memory
//! without end.
//!
//! The input is `config.json`, a byte 0, the header of `model.safetensors` and, if there is more, another
//! byte 0 and elements of the tensors, which are repeated. The header's length is put before it, as
//! otherwise hardly a change would leave a file of tensors.

#![no_main]

use forgetting_laws::checkpoint::{CONFIG, Checkpoint, WEIGHTS};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use tempfile::TempDir;

/// Bytes of the tensors: more than the largest of the golden models has.
const TENSORS: usize = 1 << 16;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fuzz_target!(|data: &[u8]| {
    let folder = FOLDER.path();
    let mut parts = data.splitn(3, |&byte| byte == 0);
    let [config, header, elements] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header);
    let elements: &[u8] = if elements.is_empty() { &[0] } else { elements };
    weights.extend(elements.iter().cycle().take(TENSORS));
    fs::write(folder.join(CONFIG), config).expect("a written file");
    fs::write(folder.join(WEIGHTS), weights).expect("a written file");
    match Checkpoint::read(folder) {
        Ok(model) => {
            let written = folder.join("again");
            fs::create_dir_all(&written).expect("a folder");
            model.write(&written, None).expect("a model that was read can be written");
            let again = Checkpoint::read(&written).expect("what was written can be read");
            assert_eq!(again.shape, model.shape);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
});
