use companion::{chat, rate_limit::Decision};
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
    let (companion, id) = (request.state.companion.clone(), request.id.clone());
    let mut fields = request.fields()?;
    let message = fields.text("message", 1, LONGEST_MESSAGE);
    let persona_key =
        fields.optional_text("persona_key", 0, LONGEST_PERSONA_KEY).filter(|key| !key.is_empty());
    fields.finish()?;
    if let Decision::Limited { retry_after_seconds } = companion.rate_limiter.check(user.id).await {
        log::info!(request_id = id, user:% = user.id, retry_after_seconds; "A chat request was rate limited");
        return Err(ApiError::RateLimited(retry_after_seconds));
    }
    let said = chat::Request {
        user: &user,
        message: &message,
        persona_key: persona_key.as_deref(),
        correlation_id: &id,
    };
    super::json(&chat::chat(&companion, said).await?)
}
