//! The options of Celery's `apply_async`, as methods of every builder of a signature.

/// The methods of a builder that has `option(name, value)`.
macro_rules! sending_options {
    ($(#[$attribute:meta])*) => {
        /// Sends to that queue.
        $(#[$attribute])*
        pub fn queue(self, queue: impl Into<String>) -> Self {
            self.option("queue", queue.into())
        }

        /// Sends with that routing key.
        $(#[$attribute])*
        pub fn routing_key(self, routing_key: impl Into<String>) -> Self {
            self.option("routing_key", routing_key.into())
        }

        /// Sends with that priority, 0 to 9; on Redis the lower is served first.
        $(#[$attribute])*
        pub fn priority(self, priority: u8) -> Self {
            self.option("priority", priority)
        }

        /// Runs after that time: a [`Duration`](std::time::Duration), or seconds.
        $(#[$attribute])*
        pub fn countdown(self, countdown: impl Into<$crate::task::Seconds>) -> Self {
            self.option("countdown", countdown.into().into_value())
        }

        /// Runs at that time.
        $(#[$attribute])*
        pub fn eta(self, eta: ::chrono::DateTime<::chrono::Utc>) -> Self {
            self.option("eta", eta)
        }

        /// Does not start when this time has passed since it was sent: a [`Duration`](std::time::Duration), or seconds.
        $(#[$attribute])*
        pub fn expires(self, expires: impl Into<$crate::task::Seconds>) -> Self {
            self.option("expires", expires.into().into_value())
        }

        /// Does not start after that time.
        $(#[$attribute])*
        pub fn expires_at(self, expires: ::chrono::DateTime<::chrono::Utc>) -> Self {
            self.option("expires", expires)
        }

        /// Ends the task when it has run for that time: a [`Duration`](std::time::Duration), or seconds.
        $(#[$attribute])*
        pub fn time_limit(self, limit: impl Into<$crate::task::Seconds>) -> Self {
            self.option("time_limit", limit.into().into_value())
        }

        /// Tells the task to end when it has run for that time: a [`Duration`](std::time::Duration), or seconds.
        $(#[$attribute])*
        pub fn soft_time_limit(self, limit: impl Into<$crate::task::Seconds>) -> Self {
            self.option("soft_time_limit", limit.into().into_value())
        }

        /// Runs under that id; the last task of a chain, the body of a chord.
        $(#[$attribute])*
        pub fn task_id(self, id: impl Into<String>) -> Self {
            self.option("task_id", id.into())
        }

        /// Shows that name instead of the task's in logs and events.
        $(#[$attribute])*
        pub fn shadow(self, name: impl Into<String>) -> Self {
            self.option("shadow", name.into())
        }

        /// Drops the result, or keeps it although the task drops it.
        $(#[$attribute])*
        pub fn ignore_result(self, ignore: bool) -> Self {
            self.option("ignore_result", ignore)
        }
    };
}

pub(crate) use sending_options;
