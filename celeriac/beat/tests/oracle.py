"""Random schedules as Celery computes them: one JSON line for each case.

python oracle.py SEED COUNT
"""
import json
import random
import sys
import zoneinfo
from datetime import datetime, timedelta, timezone

from celery import Celery
from celery.schedules import crontab, schedule, solar

SPRING_AND_AUTUMN = ['America/New_York', 'Europe/Berlin', 'Australia/Lord_Howe', 'America/Sao_Paulo', 'Africa/Casablanca',
                     'Asia/Tehran', 'Pacific/Apia', 'Europe/London', 'Europe/Dublin', 'America/Havana', 'Asia/Beirut',
                     'Asia/Gaza', 'America/Santiago', 'Antarctica/Troll', 'Pacific/Chatham']
EVERYWHERE = sorted(zoneinfo.available_timezones() - {'localtime', 'Factory'})
FIELDS = [('minute', 60, 0), ('hour', 24, 0), ('day_of_week', 7, 0), ('day_of_month', 31, 1), ('month_of_year', 12, 1)]
WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
apps = {}


def app_in(zone):
    if zone not in apps:
        apps[zone] = Celery('oracle', broker='memory://', set_as_current=False)
        apps[zone].conf.update(timezone=zone)
    return apps[zone]


def field(rng, name, count, low):
    high = low + count - 1
    number = lambda: rng.randint(low, high)
    kind = rng.random()
    if kind < 0.35:
        return '*'
    if kind < 0.55:
        return f'*/{rng.randint(1, count)}'
    if kind < 0.7:
        return str(number())
    if kind < 0.8:
        return f'{number()}-{number()}'
    if kind < 0.87:
        return f'{number()}-{number()}/{rng.randint(1, 9)}'
    if kind < 0.93:
        return ','.join(str(number()) for _ in range(rng.randint(2, 4)))
    if kind < 0.96:
        return [number() for _ in range(rng.randint(1, 3))]
    if kind < 0.98 and name == 'day_of_week':
        return rng.choice(WEEKDAYS) + '-' + rng.choice(WEEKDAYS)
    return rng.choice([f' {number()}', f'{number()}, {number()}', '', f'{high + 1}', '5/10', '-1', f'{number()}-', '*/0', 'x'])


def instant(rng, zone):
    """Any time between 1975 and 2037; half of them within a day of a change of the clock."""
    time = datetime(1975, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=rng.randrange(62 * 365 * 86400))
    if rng.random() < 0.5:
        tz = zoneinfo.ZoneInfo(zone)
        for _ in range(370):
            if time.astimezone(tz).utcoffset() != (time + timedelta(days=1)).astimezone(tz).utcoffset():
                return time + timedelta(seconds=rng.randrange(86400))
            time += timedelta(days=1)
    return time


def crontab_case(rng):
    zone = rng.choice(SPRING_AND_AUTUMN if rng.random() < 0.6 else EVERYWHERE)
    fields = {name: field(rng, name, count, low) for name, count, low in FIELDS}
    last = instant(rng, zone)
    now = last + timedelta(seconds=rng.choice([0, 59, 3600, 86400, rng.randrange(400 * 86400)]))
    case = {'kind': 'crontab', 'timezone': zone, 'fields': fields, 'last': last.isoformat(), 'now': now.isoformat()}
    tz = zoneinfo.ZoneInfo(zone)
    try:
        made = crontab(nowfun=lambda: now.astimezone(tz), app=app_in(zone), **fields)
    except Exception as error:
        return case | {'error': repr(error)}
    state = made.is_due(last.astimezone(tz))
    return case | {'is_due': state.is_due, 'next': state.next}


def interval_case(rng):
    zone = rng.choice(SPRING_AND_AUTUMN if rng.random() < 0.6 else EVERYWHERE)
    every = rng.choice([0.5, 1, 7.25, 59, 60, 90, 3600, 5400, 86400, 172800, rng.randrange(1, 10 ** 6)])
    relative = rng.random() < 0.7
    last = instant(rng, zone)
    now = last + timedelta(seconds=rng.choice([0, every / 2, every, every * 3 + 1]))
    tz = zoneinfo.ZoneInfo(zone)
    made = schedule(every, relative=relative, nowfun=lambda: now.astimezone(tz), app=app_in(zone))
    state = made.is_due(last.astimezone(tz))
    return {'kind': 'interval', 'timezone': zone, 'every': every, 'relative': relative, 'last': last.isoformat(),
            'now': now.isoformat(), 'is_due': state.is_due, 'next': state.next}


def solar_case(rng):
    event = rng.choice(sorted(solar._all_events))
    lat, lon = round(rng.uniform(-60, 60), 3), round(rng.uniform(-180, 180), 3)
    last = datetime(2000, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=rng.randrange(40 * 365 * 86400))
    made = solar(event, lat, lon, nowfun=lambda: last, app=app_in('UTC'))
    seconds = made.remaining_estimate(last).total_seconds()
    return {'kind': 'solar', 'event': event, 'lat': lat, 'lon': lon, 'last': last.isoformat(),
            'next': (last + timedelta(seconds=seconds)).isoformat()}


def main(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        make = rng.choices([crontab_case, interval_case, solar_case], [7, 2, 1])[0]
        print(json.dumps(make(rng)))


main(int(sys.argv[1]), int(sys.argv[2]))
