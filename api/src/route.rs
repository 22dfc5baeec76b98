//! The table of all routes: their names in metrics, and the methods that they take.

/// A route and its methods, besides `HEAD` where there is `GET`, and `OPTIONS`.
pub(crate) struct Route {
    /// The path as it is written in metrics; `{id}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) methods: &'static [&'static str],
}

/// All routes. A test asks each of them, so that none is missing here or there.
pub(crate) const ROUTES: [Route; 14] = [
    route("/health", &["GET"]),
    route("/healthz", &["GET"]),
    route("/metrics", &["GET"]),
    route("/metrics/basic", &["GET"]),
    route("/chat", &["POST"]),
    route("/reminders", &["GET"]),
    route("/reminders/{id}/cancel", &["POST"]),
    route("/users/push-token", &["POST"]),
    route("/admin/queues", &["GET"]),
    route("/admin/workers", &["GET"]),
    route("/admin/reminders", &["GET"]),
    route("/admin/reminders/requeue", &["POST"]),
    route("/admin/features", &["GET", "POST"]),
    route("/admin/schedule", &["GET", "POST"]),
];

const fn route(path: &'static str, methods: &'static [&'static str]) -> Route {
    Route { path, methods }
}

impl Route {
    /// Finds the route of a request's path.
    pub(crate) fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| {
            let (mut wanted, mut given) = (route.path.split('/'), path.split('/'));
            loop {
                match (wanted.next(), given.next()) {
                    (None, None) => return true,
                    (Some("{id}"), Some(segment)) if !segment.is_empty() => {}
                    (Some(wanted), Some(given)) if wanted == given => {}
                    _ => return false,
                }
            }
        })
    }

    /// Returns the value of the header `Allow`.
    pub(crate) fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.methods.to_vec();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_by_segments() {
        let found = |path| Route::of(path).map(|route| route.path);
        assert_eq!(found("/reminders/7/cancel"), Some("/reminders/{id}/cancel"));
        assert_eq!(found("/admin/features"), Some("/admin/features"));
        for path in ["/", "", "/reminders/", "/reminders//cancel", "/reminders/7/cancel/", "/healthz/x"] {
            assert_eq!(found(path), None, "{path}");
        }
        assert_eq!(
            Route::of("/admin/features").map(Route::allow).as_deref(),
            Some("GET, POST, HEAD, OPTIONS")
        );
    }
}
