//! Keeps the user's words and addresses out of logs.

use super::Notification;

/// Replaces the notification's text, address and push token wherever a server's answer repeats them.
pub(super) fn redact(reason: &str, notification: &Notification) -> String {
    let mut reason = reason.to_owned();
    let private = [
        (Some(notification.text.as_str()), "[text]"),
        (Some(notification.email.as_str()), "[address]"),
        (notification.push_token.as_deref(), "[push token]"),
    ];
    for (value, name) in private {
        let Some(value) = value.filter(|value| !value.trim().is_empty()) else { continue };
        let escaped = serde_json::Value::from(value).to_string();
        for form in [value, &escaped[1..escaped.len() - 1], value.trim()] {
            reason = replace_words(&reason, form, name);
        }
    }
    reason
}

/// Replaces `words` where they are not part of a longer word: a text such as "a" must not garble the rest.
fn replace_words(text: &str, words: &str, name: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(words) {
        let end = start + words.len();
        let before = rest[..start].chars().next_back().or_else(|| result.chars().next_back());
        let after = rest[end..].chars().next();
        let is_whole = ![before, after].into_iter().flatten().any(char::is_alphanumeric);
        result.push_str(&rest[..start]);
        result.push_str(if is_whole { name } else { words });
        rest = &rest[end..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_user_is_hidden_and_the_rest_stays() {
        let notification = Notification {
            reminder_id: uuid::Uuid::nil(),
            email: "ann@example.com".to_owned(),
            push_token: Some("ExponentPushToken[abc]".to_owned()),
            text: "say \"x\"".to_owned(),
            due: String::new(),
        };
        let said =
            r#"status 422: {"to":"ann@example.com","body":"say \"x\""}: "ExponentPushToken[abc]" is unknown"#;
        assert_eq!(
            redact(said, &notification),
            r#"status 422: {"to":"[address]","body":"[text]"}: "[push token]" is unknown"#
        );
        let short = Notification { text: "a".to_owned(), ..notification };
        assert_eq!(redact("a bad status: a", &short), "[text] bad status: [text]");
        assert_eq!(redact("bad", &short), "bad");
    }
}
