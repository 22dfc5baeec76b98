//! Where the sun stands: apparent position of low accuracy (0.01 degrees, that is some seconds of time).
//!
//! Source: Jean Meeus, Astronomical Algorithms, 2nd edition, chapters 12 (sidereal time), 13 (altitude) and 25 (solar
//! coordinates). Compared with ephem 4.2 in `tests/schedules.rs`.

use chrono::{DateTime, TimeDelta, Utc};

/// Days that are searched for an event that does not happen each day; as in `celery/schedules.py`, celery 5.7.
const MAX_SEARCH_DAYS: i32 = 366;

/// How far the sun turns in a day, in degrees of hour angle.
const DEGREES_A_DAY: f64 = 360.0;

/// The height that an event is about, in degrees, and what of the sun is there.
#[derive(Clone, Copy)]
pub(super) enum Horizon {
    Centre(f64),
    UpperLimb(f64),
}

/// The first time after `last` at which the sun rises above (or sets below) the horizon.
pub(super) fn next_crossing(
    last: DateTime<Utc>,
    latitude: f64,
    longitude: f64,
    horizon: Horizon,
    rising: bool,
) -> DateTime<Utc> {
    let start = days(last);
    let height = |time: f64| sun(time).height(time, latitude, longitude, horizon);
    // From noon to the lowest point and back to noon: away from the poles the sun only sets in the one half and only rises
    // in the other; at the poles it does either once a year, at any time of day.
    let mut from = meridian_passage(start - 1.0, longitude, 0.0);
    let mut at_start = height(from);
    for half_day in 0..2 * (MAX_SEARCH_DAYS + 2) {
        let angle = if half_day % 2 == 0 { 180.0 } else { 0.0 };
        let to = meridian_passage(from + 0.5, longitude, angle);
        let at_end = height(to);
        if (at_start < 0.0) == rising
            && (at_end >= 0.0) == rising
            && let Some(crossing) = bisect(from, to, &height)
            && crossing > start
        {
            return instant(crossing);
        }
        (from, at_start) = (to, at_end);
    }
    instant(from)
}

/// The first time after `last` at which the sun passes the meridian.
pub(super) fn next_transit(last: DateTime<Utc>, longitude: f64) -> DateTime<Utc> {
    let start = days(last);
    let mut noon = meridian_passage(start - 1.0, longitude, 0.0);
    while noon <= start {
        noon = meridian_passage(noon + 1.0, longitude, 0.0);
    }
    instant(noon)
}

/// Where a function changes its sign, to less than a millisecond.
fn bisect(mut from: f64, mut to: f64, function: &impl Fn(f64) -> f64) -> Option<f64> {
    let at_start = function(from);
    if at_start * function(to) > 0.0 {
        return None;
    }
    for _ in 0..40 {
        let middle = f64::midpoint(from, to);
        if at_start * function(middle) > 0.0 { from = middle } else { to = middle }
    }
    Some(to)
}

/// The time nearest to `near` at which the sun's hour angle is that angle.
fn meridian_passage(near: f64, longitude: f64, hour_angle: f64) -> f64 {
    let mut time = near;
    for _ in 0..6 {
        let difference = sun(time).hour_angle(time, longitude) - hour_angle;
        time -= ((difference + 180.0).rem_euclid(360.0) - 180.0) / DEGREES_A_DAY;
    }
    time
}

/// The apparent sun; angles in degrees.
struct Sun {
    right_ascension: f64,
    declination: f64,
    /// Distance in astronomical units.
    distance: f64,
    /// Nutation in right ascension.
    equation_of_equinoxes: f64,
}

/// The sun at a time in days since 2000-01-01 12:00 UTC.
fn sun(time: f64) -> Sun {
    // Terrestrial time is ahead of UTC by some 69 seconds in the 2020s.
    let t = (time + 69.2 / 86_400.0) / 36_525.0;
    let mean_longitude = 280.466_46 + t * (36_000.769_83 + t * 0.000_303_2);
    let anomaly = (357.529_11 + t * (35_999.050_29 - t * 0.000_153_7)).to_radians();
    let eccentricity = 0.016_708_634 - t * (0.000_042_037 + t * 0.000_000_126_7);
    let centre = (1.914_602 - t * (0.004_817 + t * 0.000_014)) * anomaly.sin()
        + (0.019_993 - t * 0.000_101) * (2.0 * anomaly).sin()
        + 0.000_289 * (3.0 * anomaly).sin();
    let true_anomaly = anomaly + centre.to_radians();
    let distance =
        1.000_001_018 * (1.0 - eccentricity * eccentricity) / (1.0 + eccentricity * true_anomaly.cos());
    let node = (125.04 - 1934.136 * t).to_radians();
    let nutation = -0.004_78 * node.sin();
    let longitude = (mean_longitude + centre - 0.005_69 + nutation).to_radians();
    let obliquity =
        (23.439_291_11 - t * (0.013_004_167 + t * 0.000_000_163_9) + 0.002_56 * node.cos()).to_radians();
    Sun {
        right_ascension: (obliquity.cos() * longitude.sin()).atan2(longitude.cos()).to_degrees(),
        declination: (obliquity.sin() * longitude.sin()).asin().to_degrees(),
        distance,
        equation_of_equinoxes: nutation * obliquity.cos(),
    }
}

impl Sun {
    fn hour_angle(&self, time: f64, longitude: f64) -> f64 {
        let t = time / 36_525.0;
        let mean_sidereal = 280.460_618_37 + 360.985_647_366_29 * time + t * t * 0.000_387_933;
        mean_sidereal + self.equation_of_equinoxes + longitude - self.right_ascension
    }

    /// Height over the horizon in degrees: negative below it.
    fn height(&self, time: f64, latitude: f64, longitude: f64, horizon: Horizon) -> f64 {
        let (latitude, declination) = (latitude.to_radians(), self.declination.to_radians());
        let hour_angle = self.hour_angle(time, longitude).to_radians();
        let sine = latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos();
        let altitude = sine.asin();
        let parallax = 8.794 / 3600.0 / self.distance * altitude.cos();
        let centre = altitude.to_degrees() - parallax;
        match horizon {
            Horizon::Centre(degrees) => centre - degrees,
            Horizon::UpperLimb(degrees) => centre + 959.63 / 3600.0 / self.distance - degrees,
        }
    }
}

/// 2000-01-01 12:00 UTC in seconds of Unix time.
const EPOCH: i64 = 946_728_000;

fn days(time: DateTime<Utc>) -> f64 {
    (time.timestamp_micros() - EPOCH * 1_000_000) as f64 / 86_400e6
}

fn instant(days: f64) -> DateTime<Utc> {
    let epoch = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(EPOCH);
    epoch + TimeDelta::microseconds((days * 86_400e6) as i64)
}
