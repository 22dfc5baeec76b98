"""Captures what celery 5.7.0 (with ephem) computes, into the JSON files beside this script.

pip install celery==5.7.0 ephem==4.2 && python capture.py
"""
import json
import pathlib
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import crontab, schedule, solar

HERE = pathlib.Path(__file__).parent


def app_in(zone, **settings):
    app = Celery('capture', broker='memory://', set_as_current=False)
    app.conf.update(timezone=zone, **settings)
    return app


def write(name, note, cases):
    lines = ',\n  '.join(json.dumps(case) for case in cases)
    (HERE / name).write_text('{"note": %s, "cases": [\n  %s\n]}\n' % (json.dumps(note), lines))


def solar_cases():
    places = [(52.23, 21.01), (40.71, -74.0), (-33.87, 151.21), (0.0, 0.0), (1.35, 103.82), (64.15, -21.94),
              (69.65, 18.96), (-54.8, -68.3), (37.77, -122.42)]
    days = ['2026-01-15T00:00:00', '2026-03-20T12:00:00', '2026-06-21T23:30:00', '2026-09-01T05:10:20',
            '2026-12-21T18:00:00']
    for event in sorted(solar._all_events):
        for lat, lon in places:
            for day in days:
                last = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
                made = solar(event, lat, lon, nowfun=lambda last=last: last, app=app_in('UTC'))
                seconds = made.remaining_estimate(last).total_seconds()
                yield {'event': event, 'lat': lat, 'lon': lon, 'last_run_at': last.isoformat(),
                       'next': (last + timedelta(seconds=seconds)).isoformat()}


def relative_cases():
    starts = {
        'UTC': ['2026-01-01T12:00:30.250000+00:00'],
        'Europe/Warsaw': ['2026-03-29T00:20:10+00:00', '2026-03-29T00:59:59+00:00', '2026-10-24T23:50:05+00:00',
                          '2026-10-25T00:30:00+00:00', '2026-10-25T01:10:00+00:00', '2026-07-01T09:08:07.5+00:00',
                          '2026-10-24T10:00:00+00:00', '2026-03-28T10:00:00+00:00'],
        'Australia/Lord_Howe': ['2026-04-04T14:40:00+00:00', '2026-04-04T15:10:00+00:00', '2026-10-03T15:20:00+00:00'],
        'America/Havana': ['2025-03-08T20:00:00+00:00', '2025-11-01T20:00:00+00:00', '2025-11-02T04:30:00+00:00'],
    }
    for zone, texts in starts.items():
        for text in texts:
            for every in [0.5, 10, 59, 60, 90, 600, 3600, 5400, 86400, 172800]:
                last = datetime.fromisoformat(text).astimezone(ZoneInfo(zone))
                for late in [0, every / 2, every, every * 1.5 + 7]:
                    now = (last.astimezone(timezone.utc) + timedelta(seconds=late)).astimezone(ZoneInfo(zone))
                    made = schedule(every, relative=True, nowfun=lambda now=now: now, app=app_in(zone))
                    state = made.is_due(last)
                    yield {'timezone': zone, 'every': every, 'last_run_at': text, 'now': now.astimezone(
                        timezone.utc).isoformat(), 'is_due': state.is_due, 'next': state.next}


def deadline_cases():
    for minute, hour in [('0', '*'), ('30', '4'), ('*/15', '*')]:
        for deadline in [0, 60, 600, 3600, 90000]:
            for ago in [30, 400, 5000, 100000]:
                for text in ['2026-05-04T10:00:00', '2026-05-04T10:07:30', '2026-05-04T04:35:00']:
                    now = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
                    last = now - timedelta(seconds=ago)
                    made = crontab(minute, hour, nowfun=lambda now=now: now,
                                   app=app_in('UTC', beat_cron_starting_deadline=deadline))
                    state = made.is_due(last)
                    yield {'minute': minute, 'hour': hour, 'deadline': deadline, 'last_run_at': last.isoformat(),
                           'now': now.isoformat(), 'is_due': state.is_due, 'next': state.next}


write('solar.json', 'remaining_estimate of celery 5.7.0 with ephem', solar_cases())
write('relative.json', 'schedule(every, relative=True).is_due of celery 5.7.0', relative_cases())
write('deadline.json', 'crontab.is_due of celery 5.7.0 under beat_cron_starting_deadline', deadline_cases())
