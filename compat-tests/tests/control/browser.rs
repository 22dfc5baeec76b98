//! Pages as a person sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use compat_tests::{run, scratch_dir, secs};

/// Opens a page in headless Chromium, keeps a picture of it under `target/tmp`, and returns its content as it is after
/// scripts have run.
#[track_caller]
pub(crate) fn look_at(url: &str, name: &str) -> String {
    let picture = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    let _ = std::fs::remove_file(&picture);
    let profile = scratch_dir("chromium");
    let picture_option = format!("--screenshot={}", picture.display());
    run(chromium(profile.path(), url).arg(picture_option), secs(60)).success();
    let size = picture.metadata().map_or(0, |metadata| metadata.len());
    assert!(size > 5_000, "{} is empty", picture.display());
    run(chromium(profile.path(), url).arg("--dump-dom"), secs(60)).success()
}

fn chromium(profile: &Path, url: &str) -> Command {
    let program = std::env::var("COMPAT_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let mut command = Command::new(program);
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]);
    command.args(["--no-first-run", "--disable-extensions", "--disable-background-networking"]);
    // Time that the page's own scripts get.
    command.args(["--window-size=1500,900", "--virtual-time-budget=5000"]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(url);
    command
}
