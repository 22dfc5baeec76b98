//! Certificates for a test's own servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::eventually::secs;
use crate::place::scratch_dir;
use crate::run::run;

/// An authority with certificates for a server at `localhost` and 127.0.0.1, for one by another name, and for a client;
/// made by `openssl`.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Panics
    /// When `openssl` does not.
    #[track_caller]
    pub fn make() -> Self {
        let made = Self { folder: scratch_dir("certificates") };
        let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority =
            ["-x509", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2"];
        made.openssl(request.iter().chain(&authority));
        for (name, alternative) in [
            ("server", "DNS:localhost,IP:127.0.0.1"),
            ("stranger", "DNS:stranger.test"),
            ("client", "DNS:client.test"),
        ] {
            let [key, signing, certificate, extensions] =
                ["key", "csr", "crt", "ext"].map(|kind| format!("{name}.{kind}"));
            let text = format!("subjectAltName={alternative}\nbasicConstraints=critical,CA:FALSE\n");
            std::fs::write(made.folder.path().join(&extensions), text).expect("the folder takes files");
            let subject = format!("/CN={name}");
            let named = ["-subj", subject.as_str(), "-keyout", key.as_str(), "-out", signing.as_str()];
            made.openssl(request.iter().chain(&named));
            let signed = [
                "x509",
                "-req",
                "-in",
                &signing,
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-out",
                &certificate,
                "-days",
                "2",
                "-extfile",
                &extensions,
            ];
            made.openssl(signed.iter());
        }
        made
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// A file of theirs: `server.crt`, `server.key`, `stranger.crt`, `client.crt`, `client.key`, ...
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of all of them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[track_caller]
    fn openssl<'a>(&self, arguments: impl Iterator<Item = &'a &'a str>) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path());
        run(&command, secs(30)).success();
    }
}
