use serde_json::json;
use warp::{Filter, filters::BoxedFilter, reply::Response};

use super::{Answer, handled};
use crate::{request::Request, state::State};

/// The width of `users.push_token`.
const LONGEST_TOKEN: usize = 255;

pub(super) fn routes(state: &State) -> BoxedFilter<(Response,)> {
    handled(warp::path!("users" / "push-token").and(warp::post()).boxed(), state, push_token)
}

/// Sets the push token of the user's phone; `null` or an empty text clears it.
async fn push_token(request: Request) -> Answer {
    let user = request.user().await?;
    let store = request.state.companion.store.clone();
    let mut fields = request.fields()?;
    let token = fields.nullable_text("push_token", 0, LONGEST_TOKEN).filter(|token| !token.trim().is_empty());
    fields.finish()?;
    store.set_push_token(user.id, token.as_deref()).await?;
    super::json(&json!({ "status": "ok" }))
}
