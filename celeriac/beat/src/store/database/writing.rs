//! What beat writes into the tables of django-celery-beat: last runs, switches, configured entries.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::rows::written;
use super::{DatabaseStore, StoreError};
use crate::entry::Entry;
use crate::schedule::Schedule;

impl DatabaseStore {
    /// A time as a value of a statement.
    fn time(&self, place: &str) -> String {
        if self.connection.is_postgres() {
            format!("CAST({place} AS TIMESTAMP) AT TIME ZONE 'UTC'")
        } else {
            place.to_owned()
        }
    }

    fn flag(&self, flag: bool) -> &'static str {
        match (self.connection.is_postgres(), flag) {
            (true, true) => "TRUE",
            (true, false) => "FALSE",
            (false, true) => "1",
            (false, false) => "0",
        }
    }

    /// Writes the last run and the count back. Returns whether the row is still there.
    pub(super) async fn write_run(&mut self, key: i64, entry: &Entry) -> Result<bool, StoreError> {
        let Some(last) = entry.last_run_at else { return Ok(true) };
        let sql = format!(
            "UPDATE django_celery_beat_periodictask SET last_run_at = {}, total_run_count = CAST($2 AS INTEGER) \
             WHERE id = CAST($3 AS INTEGER)",
            self.time("$1")
        );
        let values = [&written(last), &entry.total_run_count.to_string(), &key.to_string()];
        Ok(self.connection.execute(&sql, &values.map(String::as_str)).await? > 0)
    }

    /// Switches off an entry that never runs again; the count of a one-off entry begins anew, as with Django.
    pub(super) async fn write_over(&mut self, name: &str) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE django_celery_beat_periodictask SET enabled = {off}, \
             total_run_count = CASE WHEN one_off THEN 0 ELSE total_run_count END WHERE name = $1",
            off = self.flag(false)
        );
        self.connection.execute(&sql, &[name]).await?;
        if let Some((_, found)) = self.entries.get_mut(name) {
            found.entry.enabled = false;
        }
        self.look_at(name, None);
        Ok(())
    }

    /// Switches an entry on or off, and says so as Django does.
    pub(super) async fn write_switch(&mut self, name: &str, enabled: bool) -> Result<bool, StoreError> {
        let flag = self.flag(enabled);
        let sql = format!("UPDATE django_celery_beat_periodictask SET enabled = {flag} WHERE name = $1");
        let is_there = self.connection.execute(&sql, &[name]).await? > 0;
        self.tell_changed().await?;
        Ok(is_there)
    }

    /// Makes Django's beats read the tables again.
    async fn tell_changed(&mut self) -> Result<(), StoreError> {
        let now = written(Utc::now());
        let time = self.time("$1");
        let sql = format!("UPDATE django_celery_beat_periodictasks SET last_update = {time}");
        if self.connection.execute(&sql, &[&now]).await? == 0 {
            let sql = format!(
                "INSERT INTO django_celery_beat_periodictasks (ident, last_update) VALUES (1, {time})"
            );
            self.connection.execute(&sql, &[&now]).await?;
        }
        Ok(())
    }

    /// Writes the configured entries, as Django's scheduler does with `beat_schedule`: a row of the same name is changed.
    pub(super) async fn write_configured(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut at = 0;
        while at < self.configured.len() {
            for entry in self.configured.part(at, 500) {
                self.write_entry(&entry, now).await?;
            }
            at += 500;
        }
        if at > 0 { self.tell_changed().await } else { Ok(()) }
    }

    async fn write_entry(&mut self, entry: &Entry, now: DateTime<Utc>) -> Result<(), StoreError> {
        let (column, schedule) = self.write_schedule(entry).await?;
        let option =
            |name: &str| entry.options.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| {
            entry
                .options
                .get(name)
                .and_then(Value::as_i64)
                .map(|number| number.to_string())
                .unwrap_or_default()
        };
        let headers = entry.options.get("headers").cloned().unwrap_or_else(|| json!({}));
        let values = [
            entry.task.clone(),
            json!(entry.args).to_string(),
            json!(entry.kwargs).to_string(),
            option("queue"),
            option("exchange"),
            option("routing_key"),
            headers.to_string(),
            number("priority"),
            number("expires"),
            schedule,
            entry.name.clone(),
        ];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let columns: Vec<String> = ["interval_id", "crontab_id", "solar_id", "clocked_id"]
            .iter()
            .map(|name| format!("{name} = {}", if *name == column { "CAST($10 AS INTEGER)" } else { "NULL" }))
            .collect();
        let update = format!(
            "UPDATE django_celery_beat_periodictask SET task = $1, args = $2, kwargs = $3, queue = NULLIF($4, ''), \
             exchange = NULLIF($5, ''), routing_key = NULLIF($6, ''), headers = $7, \
             priority = CAST(NULLIF($8, '') AS INTEGER), expire_seconds = CAST(NULLIF($9, '') AS INTEGER), {} \
             WHERE name = $11",
            columns.join(", ")
        );
        if self.connection.execute(&update, &values).await? > 0 {
            return Ok(());
        }
        let changed = written(now);
        let (off, enabled) = (self.flag(false), self.flag(entry.enabled));
        let insert = format!(
            "INSERT INTO django_celery_beat_periodictask (task, args, kwargs, queue, exchange, routing_key, headers, priority, \
             expire_seconds, {column}, name, one_off, enabled, total_run_count, date_changed, description) \
             VALUES ($1, $2, $3, NULLIF($4, ''), NULLIF($5, ''), NULLIF($6, ''), $7, CAST(NULLIF($8, '') AS INTEGER), \
             CAST(NULLIF($9, '') AS INTEGER), CAST($10 AS INTEGER), $11, {off}, {enabled}, 0, {}, '')",
            self.time("$12")
        );
        self.connection.execute(&insert, &[&values[..], &[&changed]].concat()).await?;
        Ok(())
    }

    /// The column of a schedule, and the key of its row, which is made if there is none like it.
    async fn write_schedule(&mut self, entry: &Entry) -> Result<(&'static str, String), StoreError> {
        let (column, table, fields): (_, _, Vec<(&str, String)>) = match &entry.schedule {
            Schedule::Interval(interval) => {
                let micros = interval.every.as_micros();
                let (every, period) = match micros % 1_000_000 {
                    0 => (micros / 1_000_000, "seconds"),
                    _ => (micros, "microseconds"),
                };
                ("interval_id", "interval", vec![("every", every.to_string()), ("period", period.to_owned())])
            }
            Schedule::Crontab(crontab) => {
                let text = |value: &Value| value.as_str().map_or_else(|| list(value), str::to_owned);
                let mut fields: Vec<(&str, String)> =
                    crontab.fields().map(|(name, field)| (name, text(field.original()))).to_vec();
                let zone = entry.timezone.unwrap_or_else(|| self.app.config().timezone_or_utc());
                fields.push(("timezone", zone.name().to_owned()));
                ("crontab_id", "crontab", fields)
            }
            Schedule::Solar(solar) => {
                let (event, latitude, longitude) = solar.parts();
                let fields = vec![
                    ("event", event.to_string()),
                    ("latitude", latitude.to_string()),
                    ("longitude", longitude.to_string()),
                ];
                ("solar_id", "solar", fields)
            }
            Schedule::Clocked(clocked) => {
                ("clocked_id", "clocked", vec![("clocked_time", written(clocked.at))])
            }
            Schedule::Rrule(_) => {
                let name = &entry.name;
                return Err(StoreError::Database(format!(
                    "entry {name:?}: django-celery-beat has no recurrence rules"
                )));
            }
        };
        let value = |(place, (name, _)): (usize, &(&str, String))| match *name {
            "every" => format!("CAST(${place} AS INTEGER)"),
            "latitude" | "longitude" => format!("CAST(${place} AS NUMERIC)"),
            "clocked_time" => self.time(&format!("${place}")),
            _ => format!("${place}"),
        };
        let places: Vec<String> = (1..).zip(&fields).map(value).collect();
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
        let same: Vec<String> =
            names.iter().zip(&places).map(|(name, place)| format!("{name} = {place}")).collect();
        let find = format!(
            "SELECT CAST(id AS TEXT) FROM django_celery_beat_{table}schedule WHERE {} ORDER BY id LIMIT 1",
            same.join(" AND ")
        );
        let make = format!(
            "INSERT INTO django_celery_beat_{table}schedule ({}) VALUES ({})",
            names.join(", "),
            places.join(", ")
        );
        for _ in 0..2 {
            let found = self.connection.rows(&find, &values).await?;
            if let Some(key) = found.into_iter().next().and_then(|row| row.into_iter().next().flatten()) {
                return Ok((column, key));
            }
            self.connection.execute(&make, &values).await?;
        }
        Err(StoreError::Database(format!("the {table} schedule of entry {:?} cannot be found", entry.name)))
    }
}

/// A list of numbers, or a number, as a crontab's text.
fn list(value: &Value) -> String {
    let number = |item: &Value| item.to_string();
    value
        .as_array()
        .map_or_else(|| number(value), |items| items.iter().map(number).collect::<Vec<_>>().join(","))
}
