//! The targets of scripts/fuzz over the golden samples, over what fuzzing found, and over damaged samples.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Every text of some length in the samples, and every object: messages, bodies, results, signatures.
fn samples() -> Vec<Vec<u8>> {
    fn collect(value: &Json, samples: &mut Vec<Vec<u8>>) {
        match value {
            Json::String(text) if text.len() > 8 => samples.push(text.clone().into_bytes()),
            Json::Array(items) => items.iter().for_each(|item| collect(item, samples)),
            Json::Object(fields) => {
                samples.push(value.to_string().into_bytes());
                fields.values().for_each(|field| collect(field, samples));
            }
            _ => {}
        }
    }
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../compat-tests/vectors"), &mut paths);
    let mut samples = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        collect(&value, &mut samples);
    }
    samples.retain(|sample| sample.len() < 4096);
    samples.sort();
    samples.dedup();
    samples
}

fn run(data: &[u8]) {
    for (_, target) in targets::TARGETS {
        target(data);
    }
    for choice in 0..48 {
        targets::body(&[&[choice], data].concat());
    }
}

#[test]
fn samples_and_what_fuzzing_found_pass_every_target() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found"), &mut found);
    assert!(!found.is_empty());
    found.iter().for_each(|path| run(&std::fs::read(path).unwrap()));
    let samples = samples();
    assert!(samples.len() > 500, "{}", samples.len());
    samples.iter().step_by(3).for_each(|sample| run(sample));
    // For scripts/fuzz, as its corpus.
    if let Some(folder) = std::env::var_os("CELERIAC_FUZZ_CORPUS") {
        std::fs::create_dir_all(&folder).unwrap();
        for (index, sample) in samples.iter().enumerate() {
            std::fs::write(Path::new(&folder).join(index.to_string()), sample).unwrap();
            std::fs::write(
                Path::new(&folder).join(format!("{index}-json")),
                [b"\0", sample.as_slice()].concat(),
            )
            .unwrap();
        }
    }
}
