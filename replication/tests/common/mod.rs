//! What the tests of whole runs share.

use std::process::{Command, Output};

/// A small model's text and data, for runs of a second.
#[allow(dead_code, reason = "not every test makes runs of its own")]
pub const TINY: [&str; 6] = [
    "model.context=16",
    "model.vocab=300",
    "data.tokenizer_bytes=20000",
    "data.pretrain_tokens=20000",
    "data.injection_tokens=2000",
    "data.validation_tokens=1024",
];

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
pub fn must_succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
    output
}
