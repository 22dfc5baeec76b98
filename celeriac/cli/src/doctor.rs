//! `doctor`: looks at the broker, the results and the workers, and says what is wrong and what to do about it.

use std::time::Duration;

use celeriac::config::SettingValue;
use celeriac::{Celery, Finding, Patience, Severity};
use clap::Args;

use crate::failure::Failure;
use crate::out::say;

#[derive(Args)]
pub(crate) struct Doctor {
    /// Seconds that the workers have for each answer
    #[arg(short, long, value_name = "SECONDS", default_value = "2.0", value_parser = Duration::from_text)]
    timeout: Duration,
    /// Seconds for which keys are looked through
    #[arg(short, long, value_name = "SECONDS", default_value = "10.0", value_parser = Duration::from_text)]
    patience: Duration,
    /// Print a JSON list
    #[arg(short, long)]
    json: bool,
    /// End with 1 after warnings too
    #[arg(long)]
    strict: bool,
}

impl Doctor {
    pub(crate) async fn run(self, app: &Celery, quiet: bool) -> Result<(), Failure> {
        let patience = Patience { workers: self.timeout, keys: self.patience };
        let findings = app.examine(patience).await?;
        if self.json {
            say(serde_json::to_string_pretty(&findings).map_err(Failure::failed)?)?;
        } else {
            let shown = |finding: &&Finding| !quiet || finding.severity >= Severity::Warning;
            findings.iter().filter(shown).try_for_each(show)?;
        }
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (problems, warnings) = (count(Severity::Problem), count(Severity::Warning));
        match (problems, warnings) {
            (0, 0) => Ok(()),
            (0, _) if !self.strict => Ok(()),
            _ => Err(Failure::failed(format!("{problems} problem(s), {warnings} warning(s)"))),
        }
    }
}

fn show(finding: &Finding) -> Result<(), Failure> {
    let Finding { severity, subject, text, advice, .. } = finding;
    say(format_args!("{severity:<8} {subject:<12} {text}"))?;
    match advice {
        Some(advice) => say(format_args!("{:21} hint: {advice}", "")),
        None => Ok(()),
    }
}
