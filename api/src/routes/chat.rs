use companion::{
    chat,
    rate_limit::{Decision, Quota},
};
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{Answer, handled};
use crate::{error::ApiError, request::Request, state::State};

const LONGEST_MESSAGE: usize = 8000;
const LONGEST_PERSONA_KEY: usize = 64;

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    handled(warp::path!("chat").and(warp::post()).boxed(), state, chat)
}

async fn chat(request: Request) -> Answer {
    let user = request.user().await?;
    let (companion, id, once) = (request.state.companion.clone(), request.id.clone(), request.once.clone());
    let mut fields = request.fields()?;
    let message = fields.text("message", 1, LONGEST_MESSAGE);
    let persona_key =
        fields.optional_text("persona_key", 0, LONGEST_PERSONA_KEY).filter(|key| !key.is_empty());
    fields.finish()?;
    let quota = match companion.rate_limiter.check(user.id).await {
        Decision::Allowed(quota) => Some(quota),
        Decision::Uncounted => None,
        Decision::Limited { retry_after_seconds, quota } => {
            log::info!(request_id = id, user:% = user.id, retry_after_seconds; "A chat request was rate limited");
            return Ok(with_quota(ApiError::RateLimited(retry_after_seconds).into_response(), Some(quota)));
        }
    };
    let said = chat::Request {
        user: &user,
        message: &message,
        persona_key: persona_key.as_deref(),
        correlation_id: &id,
        once: once.as_ref(),
    };
    let answer = chat::chat(&companion, said).await.map_err(ApiError::from);
    let response =
        answer.and_then(|reply| super::json(&reply)).unwrap_or_else(|error| super::refused(error, &id));
    Ok(with_quota(response, quota))
}

/// Tells the client how much of its limit is left.
fn with_quota(mut response: Response, quota: Option<Quota>) -> Response {
    if let Some(Quota { limit, remaining, reset_seconds }) = quota {
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-limit", limit.into());
        headers.insert("x-ratelimit-remaining", remaining.into());
        headers.insert("x-ratelimit-reset", reset_seconds.into());
    }
    response
}
