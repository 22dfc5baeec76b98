//! `scripts/smoke.sh` beside a running stack, with a stand-in for `docker` that records how it is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use compat_tests::{Finished, run, secs, workspace_root};
use tempfile::TempDir;

/// Answers as an engine does, and records arguments and environment; `ps` prints the content of the file `existing`.
const DOCKER: &str = r#"#!/usr/bin/env bash
folder=FOLDER
{ echo "== $*" && env; } >>"$folder/record"
case "$*" in
*" ps "*) cat "$folder/existing" 2>/dev/null ;;
esac
exit 0
"#;

/// One call of the stand-in.
struct Call {
    arguments: String,
    environment: Vec<String>,
}

impl Call {
    /// Whether it concerns a Compose project, rather than the engine or its images.
    fn is_compose(&self) -> bool {
        self.arguments.starts_with("compose ") && self.arguments != "compose version"
    }
}

struct Engine {
    folder: TempDir,
}

impl Engine {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let program = folder.path().join("docker");
        fs::write(&program, DOCKER.replace("FOLDER", &folder.path().display().to_string())).expect("write");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("an executable file");
        Self { folder }
    }

    fn existing(&self, containers: &str) {
        fs::write(self.folder.path().join("existing"), containers).expect("write");
    }

    fn calls(&self) -> Vec<Call> {
        let record = fs::read_to_string(self.folder.path().join("record")).expect("docker was called");
        let call = |text: &str| {
            let mut lines = text.lines().map(str::to_owned);
            Call { arguments: lines.next().unwrap_or_default(), environment: lines.collect() }
        };
        record.split("== ").skip(1).map(call).collect()
    }

    /// Runs the script on a host whose environment configures a live stack.
    fn smoke(&self) -> Finished {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(workspace_root().join("scripts/smoke.sh"));
        command
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env_remove("SMOKE_WITHOUT_DOCKER")
            .env_remove("SMOKE_URL")
            .env("API_PORT", "8000")
            .env("POSTGRES_HOST", "live-database")
            .env("DATABASE_URL", "postgresql://live-database/companion")
            .env("REDIS_URL", "redis://live-redis")
            .env("CELERY_BROKER_URL", "redis://live-redis")
            .env("RESEND_API_KEY", "live-key")
            .env("EXPO_ACCESS_TOKEN", "live-token")
            .env("FEATURE_FLAG_VOICE_MODE", "true");
        run(&command, secs(60))
    }
}

#[test]
fn the_smoke_test_touches_only_what_it_creates() {
    let engine = Engine::new();
    // Nothing listens where the stand-in pretends to have started the api.
    let said = engine.smoke().failure();
    let calls = engine.calls();
    let compose: Vec<&Call> = calls.iter().filter(|call| call.is_compose()).collect();
    for wanted in [" up --build --detach --wait", " down --volumes"] {
        assert!(compose.iter().any(|call| call.arguments.ends_with(wanted)), "no{wanted}: {said}");
    }
    for Call { arguments, environment } in compose {
        assert!(arguments.contains("--project-name ai-companion-smoke-"), "{arguments}");
        assert!(arguments.contains("--env-file /dev/null"), "the live stack has a file .env: {arguments}");
        assert!(environment.iter().any(|line| line.starts_with("IMAGE_TAG=smoke-")), "{arguments}");
        for line in environment {
            assert!(!line.contains("live-") && !line.starts_with("FEATURE_FLAG_"), "{arguments}: {line}");
            assert!(line != "API_PORT=8000", "the port of the live stack");
        }
    }
    for call in calls.iter().filter(|call| call.arguments.starts_with("image ")) {
        let images = call.arguments.strip_prefix("image rm ").expect("images are only removed");
        assert!(images.split(' ').all(|image| image.contains(":smoke-")), "{images}");
    }
}

#[test]
fn the_smoke_test_refuses_a_project_that_exists() {
    let engine = Engine::new();
    engine.existing("0123456789ab\n");
    let said = engine.smoke().failure();
    assert!(said.contains("exists already"), "{said}");
    for call in engine.calls() {
        let arguments = call.arguments;
        assert!(![" up ", " down ", "image "].iter().any(|word| arguments.contains(word)), "{arguments}");
    }
}
