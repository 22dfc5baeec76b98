use super::{Store, StoreError};
use crate::{auth, chat::personas};

/// The API key of the demo user.
pub const DEMO_API_KEY: &str = "sk-demo-accountability";
/// The demo user.
pub const DEMO_EMAIL: &str = "demo@example.com";

const FEATURES: [(&str, &str); 3] = [
    ("voice_mode", "Speak and listen instead of typing"),
    ("calendar_integration", "Read and write the user's calendar"),
    ("multi_channel_notifications", "Deliver reminders by every channel of the user"),
];

/// When the seed makes the demo user, whose API key everybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demo {
    /// Never, as befits a database with people in it.
    Never,
    /// Only while the database has no other users.
    IfEmpty,
    /// Whoever else is there.
    Always,
}

/// The rows that a run of the seed made; all zero when everything was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seeded {
    /// New users.
    pub users: u32,
    /// New API keys.
    pub api_keys: u32,
    /// New personas.
    pub personas: u32,
    /// New feature flags.
    pub feature_flags: u32,
    /// Whether the demo user can be used from now on.
    pub demo: bool,
}

impl Store {
    /// Makes what a first request needs: personas, feature flags and, if `demo` asks for it, the demo user with the API
    /// key [`DEMO_API_KEY`]. Rows that exist are left as they are.
    ///
    /// # Errors
    /// [`StoreError`] when the database is not available or not migrated.
    pub async fn seed(&self, demo: Demo) -> Result<Seeded, StoreError> {
        let mut seeded = Seeded::default();
        for persona in personas::built_in() {
            seeded.personas += u32::from(self.seed_persona(&persona).await?);
        }
        for (key, description) in FEATURES {
            seeded.feature_flags += u32::from(self.seed_feature_flag(key, description).await?);
        }
        let makes_demo = match demo {
            Demo::Never => false,
            Demo::IfEmpty => !self.has_users_besides(DEMO_EMAIL).await?,
            Demo::Always => true,
        };
        if makes_demo {
            seeded.demo = true;
            seeded.users += u32::from(self.insert_user(DEMO_EMAIL, Some("accountability")).await?);
            if let Some(user) = self.user_by_email(DEMO_EMAIL).await? {
                seeded.api_keys += u32::from(auth::register(self, user.id, DEMO_API_KEY).await?);
            }
        }
        Ok(seeded)
    }
}
