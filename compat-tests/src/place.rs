//! Where a test's programs live: folders and ports that nobody else has.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A new folder under the system's temporary folder, removed on drop. Folders that killed test runs left are swept.
///
/// # Panics
/// When the folder cannot be made.
pub fn scratch_dir(name: &str) -> TempDir {
    sweep();
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-{name}-", process::id()))
        .tempdir()
        .unwrap_or_else(|error| panic!("cannot make a folder in {}: {error}", std::env::temp_dir().display()))
}

/// A TCP port on loopback that is this test's own until it is dropped.
///
/// Below the kernel's ephemeral range: a client that polls a closed ephemeral port can connect to itself, and then the
/// server cannot bind it. A locked file per port keeps test processes that run side by side apart.
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds a free port.
    ///
    /// # Panics
    /// When there is none.
    pub fn free() -> Self {
        let folder = std::env::temp_dir().join("compat-tests-ports");
        fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        for _ in 0..RANGE {
            let number = FIRST + next_candidate();
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(number.to_string()));
            if let Ok(lock) = lock
                && lock.try_lock().is_ok()
                && TcpListener::bind(("127.0.0.1", number)).is_ok()
            {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + RANGE - 1)
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

const PREFIX: &str = "compat-tests-";
const FIRST: u16 = 20_000;
const RANGE: u16 = 10_000;

static STEP: AtomicU32 = AtomicU32::new(0);

fn next_candidate() -> u16 {
    let start = process::id().wrapping_mul(7);
    let step = STEP.fetch_add(1, Ordering::Relaxed);
    u16::try_from(start.wrapping_add(step) % u32::from(RANGE)).expect("a remainder below RANGE fits")
}

/// Removes the folders of test processes that are gone.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if owner(&entry.path()).is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}
