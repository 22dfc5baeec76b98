//! At an event of the sun.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::sun::{Horizon, next_crossing, next_transit};

/// What the sun does. Horizons as in `celery/schedules.py`, celery 5.7, without refraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolarEvent {
    /// The centre rises above 18 degrees below the horizon.
    DawnAstronomical,
    /// The centre rises above 12 degrees below the horizon.
    DawnNautical,
    /// The centre rises above 6 degrees below the horizon.
    DawnCivil,
    /// The upper limb rises above 34 minutes below the horizon.
    Sunrise,
    /// The centre passes the meridian.
    SolarNoon,
    /// The upper limb sets below 34 minutes below the horizon.
    Sunset,
    /// The centre sets below 6 degrees below the horizon.
    DuskCivil,
    /// The centre sets below 12 degrees below the horizon.
    DuskNautical,
    /// The centre sets below 18 degrees below the horizon.
    DuskAstronomical,
}

const NAMES: [(SolarEvent, &str); 9] = [
    (SolarEvent::DawnAstronomical, "dawn_astronomical"),
    (SolarEvent::DawnNautical, "dawn_nautical"),
    (SolarEvent::DawnCivil, "dawn_civil"),
    (SolarEvent::Sunrise, "sunrise"),
    (SolarEvent::SolarNoon, "solar_noon"),
    (SolarEvent::Sunset, "sunset"),
    (SolarEvent::DuskCivil, "dusk_civil"),
    (SolarEvent::DuskNautical, "dusk_nautical"),
    (SolarEvent::DuskAstronomical, "dusk_astronomical"),
];

impl SolarEvent {
    fn rises(self) -> bool {
        use SolarEvent::*;
        matches!(self, DawnAstronomical | DawnNautical | DawnCivil | Sunrise)
    }

    fn horizon(self) -> Option<Horizon> {
        use SolarEvent::*;
        match self {
            DawnAstronomical | DuskAstronomical => Some(Horizon::Centre(-18.0)),
            DawnNautical | DuskNautical => Some(Horizon::Centre(-12.0)),
            DawnCivil | DuskCivil => Some(Horizon::Centre(-6.0)),
            Sunrise | Sunset => Some(Horizon::UpperLimb(-34.0 / 60.0)),
            SolarNoon => None,
        }
    }
}

impl fmt::Display for SolarEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(event, _)| event == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A solar schedule that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolarError {
    /// There is no such event.
    #[error("event {0:?} is not one of {names}", names = NAMES.map(|(_, name)| name).join(", "))]
    Event(String),
    /// The latitude is not on Earth.
    #[error("latitude {0} is not between -90 and 90")]
    Latitude(f64),
    /// The longitude is not on Earth.
    #[error("longitude {0} is not between -180 and 180")]
    Longitude(f64),
}

impl FromStr for SolarEvent {
    type Err = SolarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(event, _)| *event).ok_or_else(|| SolarError::Event(text.to_owned()))
    }
}

/// Runs at an event of the sun at a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solar {
    event: SolarEvent,
    latitude: f64,
    longitude: f64,
}

impl Solar {
    /// An event at a place; degrees, north and east positive.
    ///
    /// # Errors
    /// When the place is not on Earth.
    pub fn new(event: SolarEvent, latitude: f64, longitude: f64) -> Result<Self, SolarError> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(SolarError::Latitude(latitude));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(SolarError::Longitude(longitude));
        }
        Ok(Self { event, latitude, longitude })
    }

    /// Event, latitude and longitude.
    pub fn parts(&self) -> (SolarEvent, f64, f64) {
        (self.event, self.latitude, self.longitude)
    }

    /// The first such event after an instant. Where it does not happen within a year (in the polar night, say), the end
    /// of that year, so that it is looked for again then.
    pub fn next_after(&self, last: DateTime<Utc>) -> DateTime<Utc> {
        match self.event.horizon() {
            Some(horizon) => next_crossing(last, self.latitude, self.longitude, horizon, self.event.rises()),
            None => next_transit(last, self.longitude),
        }
    }
}
