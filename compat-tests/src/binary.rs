//! Finding the programs of this workspace.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The path of a program of this workspace, beside the running test (or in `COMPAT_BIN_DIR`).
///
/// # Panics
/// When it is missing, or older than a source file that it was built from: a test of yesterday's program proves
/// nothing. Both messages say which command builds it.
pub fn binary(name: &str) -> PathBuf {
    let folder = bin_dir();
    let path = folder.join(name);
    let Some(built) = modified(&path) else {
        panic!("{} is missing; hint: build it first: cargo build --bin {name}", path.display());
    };
    if std::env::var_os("COMPAT_BIN_DIR").is_none()
        && let Some(newer) = newer_source(&folder.join(format!("{name}.d")), built)
    {
        panic!("{} is older than {newer}; hint: cargo build --bin {name}", path.display());
    }
    path
}

/// The folder that holds the workspace's Cargo.toml.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("compat-tests lies in the workspace")
}

fn bin_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os("COMPAT_BIN_DIR") {
        return folder.into();
    }
    let test = std::env::current_exe().expect("a process knows its executable");
    let folder = test.parent().expect("an executable lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps lies in the profile's folder").into()
    } else {
        folder.into()
    }
}

/// The first source in Cargo's dep-info file that was changed after `built`.
fn newer_source(dep_info: &Path, built: SystemTime) -> Option<String> {
    let text = std::fs::read_to_string(dep_info).ok()?;
    let (_, sources) = text.split_once(": ")?;
    sources
        .split_whitespace()
        .find(|source| modified(Path::new(source)).is_some_and(|at| at > built))
        .map(String::from)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}
