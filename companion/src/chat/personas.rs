use crate::store::Persona;

/// The persona of those who choose none.
pub const DEFAULT: &str = "coach";

/// The personas that are always there. Rows of the database with the same key win.
pub fn built_in() -> [Persona; 3] {
    let persona = |key: &str, name: &str, manner: &str| Persona {
        key: key.to_owned(),
        name: name.to_owned(),
        system_prompt: format!(
            "You are a personal companion who helps people to keep their word to themselves. {manner} Use the tools to \
             schedule reminders, save memories, add tasks and read the agenda; never claim to have done so otherwise. \
             Ask when the time of a reminder is not clear. Keep answers short."
        ),
    };
    [
        persona(
            "coach",
            "Coach",
            "You are an energetic coach: encouraging, concrete, always with a next step.",
        ),
        persona("calm", "Calm", "You are calm and gentle: unhurried, kind, never pressing."),
        persona(
            "accountability",
            "Accountability partner",
            "You are a direct accountability partner: you name what was promised and ask whether it was done.",
        ),
    ]
}
