//! How a server lets one in: the login, which a command may yield, TLS, and the name of the connection.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{ProtocolVersion, RedisConnectionInfo, RedisResult, cmd};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::broker::redis::dial::Watched;
use crate::broker::redis::tls::Tls;
use crate::config::CredentialCommand;

/// How long what the command has yielded serves further connections, so that those that are made together run it once.
const FRESH: Duration = Duration::from_secs(3);
/// Most bytes of a reply to an introduction.
const LONGEST_REPLY: usize = 4096;

/// How a server lets one in.
#[derive(Clone, Default)]
pub(in crate::broker::redis) struct Access {
    pub(super) login: Login,
    pub(in crate::broker::redis) tls: Option<Tls>,
    /// The name of the connections in `CLIENT LIST`.
    pub(super) client_name: Option<String>,
}

/// User and password, or where they come from.
#[derive(Clone)]
pub(super) enum Login {
    Known(Credentials),
    Asked(Arc<Provider>),
}

/// User and password of a server.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// The command that yields credentials, and what it yielded last.
pub(super) struct Provider {
    command: CredentialCommand,
    last: Mutex<Option<(Instant, Credentials)>>,
}

impl Default for Login {
    fn default() -> Self {
        Login::Known(Credentials::default())
    }
}

impl Access {
    pub(super) fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }

    /// Whether both let one in as the same user, in the same manner.
    pub(super) fn lets_in_as(&self, other: &Access) -> bool {
        let same_login = match (&self.login, &other.login) {
            (Login::Known(ours), Login::Known(theirs)) => ours == theirs,
            (Login::Asked(ours), Login::Asked(theirs)) => ours.command == theirs.command,
            _ => false,
        };
        same_login && self.tls.is_some() == other.tls.is_some()
    }

    /// The greeting of a connection to that database.
    ///
    /// # Errors
    /// The command that yields the credentials does not.
    pub(in crate::broker::redis) async fn greeting(
        &self,
        database: i64,
        protocol: ProtocolVersion,
    ) -> RedisResult<RedisConnectionInfo> {
        let mut info =
            RedisConnectionInfo::default().set_db(database).set_protocol(protocol).set_skip_set_lib_name();
        let Credentials { username, password } = self.login.credentials().await?;
        if let Some(username) = username {
            info = info.set_username(username);
        }
        if let Some(password) = password {
            info = info.set_password(password);
        }
        Ok(info)
    }

    /// Gives the connection its name, if it is to have one, before the driver takes the stream.
    ///
    /// # Errors
    /// The stream breaks. A login that is refused here is refused again, and said, when the driver greets the server.
    pub(in crate::broker::redis) async fn introduce(&self, stream: &mut Watched) -> RedisResult<()> {
        let Some(name) = &self.client_name else { return Ok(()) };
        let Credentials { username, password } = self.login.credentials().await?;
        let mut commands = Vec::new();
        if let Some(password) = &password {
            let mut auth = cmd("AUTH");
            if let Some(username) = &username {
                auth.arg(username);
            }
            auth.arg(password);
            commands.push(auth);
        }
        let mut set_name = cmd("CLIENT");
        set_name.arg("SETNAME").arg(name);
        commands.push(set_name);
        for command in commands {
            stream.write_all(&command.get_packed_command()).await?;
            stream.flush().await?;
            line(stream).await?;
        }
        Ok(())
    }
}

/// Reads a reply of one line, byte by byte: what follows is the driver's.
async fn line(stream: &mut Watched) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() > LONGEST_REPLY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server's reply to CLIENT SETNAME has no end",
            ));
        }
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

impl Login {
    async fn credentials(&self) -> io::Result<Credentials> {
        match self {
            Login::Known(credentials) => Ok(credentials.clone()),
            Login::Asked(provider) => provider.credentials().await,
        }
    }
}

impl Provider {
    pub(super) fn new(command: CredentialCommand) -> Self {
        Self { command, last: Mutex::default() }
    }

    async fn credentials(&self) -> io::Result<Credentials> {
        let mut last = self.last.lock().await;
        if let Some((_, credentials)) = last.as_ref().filter(|(time, _)| time.elapsed() < FRESH) {
            return Ok(credentials.clone());
        }
        let credentials = self.ask().await.map_err(|reason| {
            io::Error::other(format!("credential_provider: the command yields no credentials: {reason}"))
        })?;
        *last = Some((Instant::now(), credentials.clone()));
        Ok(credentials)
    }

    /// Runs the command. What it prints is never shown.
    async fn ask(&self) -> Result<Credentials, String> {
        let Some((program, arguments)) = self.command.words().split_first() else {
            return Err("it is empty".to_owned());
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| format!("{program} does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("it ended with {}", output.status));
        }
        let text = String::from_utf8(output.stdout).map_err(|_| "it printed no text".to_owned())?;
        read(&text).ok_or_else(|| {
            "it printed no password, no user and password in two lines, and no JSON object with username and password"
                .to_owned()
        })
    }
}

/// Reads what the command has printed.
fn read(text: &str) -> Option<Credentials> {
    if text.trim_start().starts_with('{')
        && let Ok(credentials) = serde_json::from_str::<Credentials>(text)
    {
        return credentials.password.is_some().then_some(credentials);
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [password] => Some(Credentials { username: None, password: Some((*password).to_owned()) }),
        [username, password] => Some(Credentials {
            username: Some((*username).to_owned()),
            password: Some((*password).to_owned()),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingValue;

    fn provider(command: &str) -> Provider {
        Provider::new(CredentialCommand::from_text(command).unwrap())
    }

    #[tokio::test]
    async fn a_command_yields_credentials_in_three_forms() {
        for (command, username, password) in [
            ("printf 's e:cret\\n'", None, "s e:cret"),
            ("printf 'ann\\nsecret\\n'", Some("ann"), "secret"),
            (r#"printf '%s' '{"username": "ann", "password": "se\ncret"}'"#, Some("ann"), "se\ncret"),
            (r#"["printf", "%s", "{x}"]"#, None, "{x}"),
        ] {
            let found = provider(command).credentials().await.unwrap();
            assert_eq!((found.username.as_deref(), found.password.as_deref()), (username, Some(password)));
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_is_said_without_what_it_printed() {
        for (command, part) in [
            ("echo hunter2; exit 3", "exit status: 3"),
            ("true", "no password"),
            ("printf 'hunter2\\nhunter2\\nhunter2\\n'", "two lines"),
            (r#"echo '{"username": "hunter2"}'"#, "no password"),
            (r#"["/no/such/program"]"#, "/no/such/program does not start"),
        ] {
            let error = provider(command).credentials().await.err().unwrap().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{command}: {error}");
        }
    }

    #[tokio::test]
    async fn connections_that_are_made_together_run_the_command_once() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let provider = provider(&format!("echo run >> {}; echo secret", runs.display()));
        futures_util::future::join_all((0..5).map(|_| provider.credentials())).await;
        assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    }
}
