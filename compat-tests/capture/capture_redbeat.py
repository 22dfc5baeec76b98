"""Run celery-redbeat for real against a private, empty redis-server (it is FLUSHED) and record keys and commands.

    redis-server --port 36379 --bind 127.0.0.1 --save '' &
    python capture_redbeat.py --redis redis://127.0.0.1:36379       (celery==5.7.0 celery-redbeat==2.4.2 redis)

The same file is the Celery application module. Output: ../vectors/beat/redbeat_*.json.
"""
import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

warnings.simplefilter('ignore')
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(os.path.dirname(HERE), 'vectors', 'beat')
ROOT = os.environ.get('RB_REDIS', 'redis://127.0.0.1:36379')

from celery import Celery  # noqa: E402
from celery.schedules import crontab, schedule, solar  # noqa: E402

app = Celery('rb', broker=ROOT + '/1', set_as_current=True)
app.conf.update(redbeat_redis_url=ROOT + '/0', worker_hijack_root_logger=False, beat_max_loop_interval=2)
SCHED = {
    'tick-3s': {'task': 'rb.tick', 'schedule': 3.0, 'args': (1, 'a'), 'kwargs': {'k': None},
                'options': {'queue': 'q1', 'expires': 30, 'priority': 4}},
    'cron-utc': {'task': 'rb.cron', 'schedule': crontab(minute='*/5', hour=[1, 2], day_of_week='mon-fri')},
    'relative': {'task': 'rb.rel', 'schedule': schedule(timedelta(hours=1)), 'relative': True},
}
WHICH = os.environ.get('RB_SCHED', 'tick-3s,cron-utc,relative')
app.conf.beat_schedule = {k: SCHED[k] for k in WHICH.split(',') if k}
if os.environ.get('RB_TZ'):
    app.conf.timezone = os.environ['RB_TZ']
for part in filter(None, os.environ.get('RB_CONF', '').split(';')):
    k, v = part.split('=', 1)
    app.conf[k] = json.loads(v)


def rds(db=0):
    import redis
    return redis.Redis.from_url(ROOT + '/%d' % db, decode_responses=True)


class Monitor:
    """Redis MONITOR with client labels."""

    def __init__(self):
        host, port = re.match(r'redis://([^:/]+):(\d+)', ROOT).groups()
        self.s = socket.create_connection((host, int(port)))
        self.s.sendall(b'MONITOR\r\n')
        self.rows, self.labels, self.t0, self.buf = [], {}, time.time(), b''
        threading.Thread(target=self.run, daemon=True).start()
        time.sleep(0.1)

    def run(self):
        while True:
            try:
                d = self.s.recv(65536)
            except OSError:
                return
            if not d:
                return
            self.buf += d
            while b'\r\n' in self.buf:
                line, self.buf = self.buf.split(b'\r\n', 1)
                m = re.match(rb'\+(\d+\.\d+) \[(\d+) ([^\]]+)\] (.*)', line)
                if m:
                    who = m.group(3).decode()
                    if who != 'lua':
                        who = self.labels.setdefault(who, 'C%d' % (len(self.labels) + 1))
                    self.rows.append((float(m.group(1)) - self.t0, 'db' + m.group(2).decode(), who,
                                      m.group(4).decode('utf-8', 'backslashreplace')))

    def mark(self, text):
        self.rows.append((time.time() - self.t0, '', '--', text))

    def text(self, skip=('"INFO"', '"CLIENT"', '"HELLO"', '"SELECT"', '"PING"')):
        time.sleep(0.2)
        return ['%.3f %s %s %s' % (t, db, who, cmd if len(cmd) < 900 else cmd[:900] + '...(cut)')
                for t, db, who, cmd in self.rows if not any(cmd.startswith(s) for s in skip)]


def dump(r=None):
    r = r or rds()
    out = {}
    for k in sorted(r.keys('*')):
        t = r.type(k)
        v = (r.hgetall(k) if t == 'hash' else r.zrange(k, 0, -1, withscores=True) if t == 'zset'
             else sorted(r.smembers(k)) if t == 'set' else r.get(k) if t == 'string' else r.lrange(k, 0, -1))
        out[k] = {'type': t, 'ttl_ms': r.pttl(k), 'value': v}
    return out


procs = []


def beat(name, *args, **env):
    log = open(os.path.join(tempfile.gettempdir(), 'redbeat-%s.log' % name), 'wb')
    p = subprocess.Popen([sys.executable, '-W', 'ignore', '-m', 'celery', '-A', 'capture_redbeat', 'beat',
                          '-S', 'redbeat.RedBeatScheduler', '-l', 'DEBUG', '--pidfile=', *args],
                         env=dict(os.environ, PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE='1', RB_REDIS=ROOT, **env),
                         cwd=tempfile.gettempdir(), stdout=log, stderr=subprocess.STDOUT)
    p.log = log.name
    procs.append(p)
    return p


def wait_log(p, text, timeout=20):
    end = time.time() + timeout
    while time.time() < end:
        if text in open(p.log, errors='replace').read():
            return True
        time.sleep(0.05)
    return False


def log_of(p, grep=r'(lock|Lock|Scheduler|Removing|ERROR|CRITICAL|rror|Failed)'):
    return [re.sub(r'^\[\S+ \S+: ', '[', s.rstrip()) for s in open(p.log, errors='replace') if re.search(grep, s) and 'MAINT_NOTIF' not in s][:40]


def stop(p, sig=signal.SIGTERM):
    if p.poll() is None:
        p.send_signal(sig)
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    return p.returncode


def scrub(t):
    for a, b in ((HERE + '/', ''), (sys.prefix, 'venv'), (sys.base_prefix, 'python-prefix'), ('@' + socket.gethostname(), '@host.example')):
        t = t.replace(a, b)
    return t


def write(name, obj):
    with open(os.path.join(OUT, name), 'w') as fh:
        fh.write(scrub(json.dumps(obj, indent=1, ensure_ascii=False) + '\n'))
    print(name, flush=True)


def flush():
    rds().flushall()


def run():
    r = rds()
    # 1 start, ticks, lock, second instance, hand-over
    flush()
    m = Monitor()
    m.mark('beat 1 starts (max interval 2 s, so lock 10 s)')
    b1 = beat('b1')
    wait_log(b1, 'Acquired lock')
    time.sleep(0.6)
    keys0 = dump()
    time.sleep(6.5)
    keys1 = dump()
    sent = rds(1)
    msgs = {k: sent.lrange(k, 0, 0) for k in sent.keys('*') if sent.type(k) == 'list'}
    m.mark('beat 2 starts with the same lock key')
    b2 = beat('b2')
    wait_log(b2, 'Acquiring lock')
    time.sleep(5)
    m.mark('beat 1 is killed with SIGKILL')
    t = time.time()
    b1.kill()
    b1.wait()
    pttl = r.pttl('redbeat::lock')
    got = wait_log(b2, 'Acquired lock', 30)
    took = time.time() - t
    m.mark('beat 2 has the lock after %.1f s' % took)
    time.sleep(4)
    m.mark('beat 2 gets SIGTERM')
    rc = stop(b2)
    time.sleep(0.3)
    after = dump()
    write('redbeat_handover.json', {
        'note': 'two beats, one lock; static entries from beat_schedule; first SIGKILL, then SIGTERM',
        'keys_after_start': keys0, 'keys_after_7s': keys1, 'first_message': msgs, 'lock_ttl_ms_when_killed': pttl,
        'handover_seconds': round(took, 1), 'acquired': got, 'exit_code_sigterm': rc, 'keys_after_sigterm': after,
        'log_beat1': log_of(b1), 'log_beat2': log_of(b2), 'commands': m.text()})

    # 2 static entry removed; disabled static entry; changed schedule
    m = Monitor()
    r.hset('redbeat:cron-utc', 'definition', json.dumps(dict(json.loads(r.hget('redbeat:cron-utc', 'definition')), enabled=False)))
    m.mark('cron-utc was set to enabled false by hand; beat starts without "relative" in beat_schedule')
    b = beat('b3', RB_SCHED='tick-3s,cron-utc')
    wait_log(b, 'Acquired lock')
    time.sleep(1)
    keys = dump()
    stop(b)
    write('redbeat_statics.json', {'note': 'second start: a removed static entry is deleted; definitions are written again (enabled true)',
                                   'keys': keys, 'log': log_of(b), 'commands': m.text()})

    # 3 lock lost while running
    out = {}
    for title, act in (('deleted', lambda: r.delete('redbeat::lock')), ('other_token', lambda: r.set('redbeat::lock', 'someone', px=60000))):
        flush()
        m = Monitor()
        b = beat('lost-' + title)
        wait_log(b, 'Acquired lock')
        time.sleep(1)
        m.mark('lock ' + title)
        act()
        time.sleep(5)
        out[title] = {'exit_code_after_5s': b.poll(), 'log': log_of(b, r'(CRITICAL|ERROR|Error|lock)'),
                      'commands': m.text()[-25:]}
        stop(b)
    write('redbeat_lock_lost.json', dict({'note': 'what a running beat does when its lock key vanishes or changes'}, **out))

    # 4 entries made by a program
    flush()
    from redbeat import RedBeatSchedulerEntry as E
    from redbeat.schedules import rrule
    from dateutil.rrule import MO, TU
    m = Monitor()
    every = schedule(timedelta(seconds=60), app=app)
    e = E('prog-default', 'rb.x', every, args=[1], kwargs={'b': 2}, options={'queue': 'q', 'countdown': 5}, app=app)
    e.save()
    m.mark('saved again with a new interval: meta stays')
    e.schedule = schedule(timedelta(seconds=90, milliseconds=500), app=app)
    e.save()
    m.mark('disabled')
    e2 = E('prog-disabled', 'rb.x', every, enabled=False, app=app)
    e2.save()
    m.mark('last_run_at null')
    e3 = E('prog-null', 'rb.x', every, app=app)
    e3.last_run_at = None
    e3.save()
    m.mark('datetimes: zone name, fixed offset, naive')
    for name, dt in (('zone', datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=ZoneInfo('Europe/Warsaw'))),
                     ('offset', datetime(2026, 6, 1, 12, 0, 0, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
                     ('naive', datetime(2026, 6, 1, 12, 0, 0))):
        x = E('dt-' + name, 'rb.x', crontab(hour=3, minute=0, app=app), app=app)
        x.last_run_at = dt
        try:
            x.save()
        except Exception as exc:
            m.mark('%s: %r' % (name, exc))
    m.mark('rrule')
    for name, rule in (('plain', rrule('SECONDLY', interval=10, app=app)),
                       ('count', rrule('DAILY', dtstart=datetime(2020, 1, 1, tzinfo=timezone.utc), count=2, app=app)),
                       ('until', rrule('WEEKLY', dtstart=datetime(2026, 1, 1, 9, tzinfo=ZoneInfo('Europe/Warsaw')),
                                       until=datetime(2030, 1, 1, tzinfo=timezone.utc), byweekday=[0, 2], app=app)),
                       ('weekday_objects', rrule('WEEKLY', dtstart=datetime(2026, 1, 1, tzinfo=timezone.utc), byweekday=[MO, TU(1)], app=app))):
        try:
            x = E('rr-' + name, 'rb.x', rule, app=app)
            x.save()
            E.from_key('redbeat:rr-' + name, app=app)
            m.mark('rr-%s read back' % name)
        except Exception as exc:
            m.mark('rr-%s: %r' % (name, exc))
    m.mark('solar')
    try:
        E('sol', 'rb.x', solar('sunset', 50, 20, app=app), app=app).save()
    except Exception as exc:
        m.mark('solar: %r' % exc)
    m.mark('reschedule()')
    e.reschedule()
    m.mark('delete()')
    e2.delete()
    write('redbeat_entries.json', {'note': 'entries made with RedBeatSchedulerEntry in a program; no beat runs', 'keys': dump(),
                                   'commands': m.text()})

    # 5 broken data while beat runs
    out = {}
    for title, act in (
            ('member_without_hash', lambda: r.zadd('redbeat::schedule', {'redbeat:ghost': 1})),
            ('definition_not_json', lambda: (r.hset('redbeat:bad', 'definition', '{oops'), r.zadd('redbeat::schedule', {'redbeat:bad': 1}))),
            ('no_meta', lambda: (r.hset('redbeat:nometa', 'definition', json.dumps(
                {'name': 'nometa', 'task': 'rb.nometa', 'args': [], 'kwargs': {}, 'options': {},
                 'schedule': {'__type__': 'interval', 'every': 60, 'relative': False}, 'enabled': True})),
                r.zadd('redbeat::schedule', {'redbeat:nometa': 1}))),
            ('minimal_definition', lambda: (r.hset('redbeat:mini', 'definition', json.dumps(
                {'name': 'mini', 'task': 'rb.mini', 'schedule': {'__type__': 'interval', 'every': 60, 'relative': False}})),
                r.zadd('redbeat::schedule', {'redbeat:mini': 1}))),
            ('extra_key_in_definition', lambda: (r.hset('redbeat:extra', 'definition', json.dumps(
                {'name': 'extra', 'task': 'rb.x', 'color': 'red', 'schedule': {'__type__': 'interval', 'every': 60, 'relative': False}})),
                r.zadd('redbeat::schedule', {'redbeat:extra': 1}))),
            ('interval_without_relative', lambda: (r.hset('redbeat:norel', 'definition', json.dumps(
                {'name': 'norel', 'task': 'rb.x', 'schedule': {'__type__': 'interval', 'every': 60}})),
                r.zadd('redbeat::schedule', {'redbeat:norel': 1}))),
            ('disabled_due', lambda: (r.hset('redbeat:off', 'definition', json.dumps(
                {'name': 'off', 'task': 'rb.x', 'enabled': False, 'schedule': {'__type__': 'interval', 'every': 1, 'relative': False}})),
                r.zadd('redbeat::schedule', {'redbeat:off': 1})))):
        flush()
        b = beat('broken-' + title, RB_SCHED='')
        wait_log(b, 'Acquired lock')
        time.sleep(0.3)
        m = Monitor()
        act()
        time.sleep(3.5)
        q = rds(1)
        out[title] = {'exit_code': b.poll(), 'log': log_of(b, r'(CRITICAL|ERROR|Error|Failed|Sending)')[:6], 'keys': dump(),
                      'sent': sum(q.llen(k) for k in q.keys('*') if q.type(k) == 'list'), 'commands': m.text()[:14]}
        stop(b)
    write('redbeat_broken.json', dict({'note': 'data put into Redis by hand while beat runs with max interval 2 s'}, **out))

    # 6 time zone of the app, own lock key, no lock
    out = {}
    for title, env in (('warsaw', {'RB_TZ': 'Europe/Warsaw'}), ('prefix', {'RB_CONF': 'redbeat_key_prefix="my:";redbeat_lock_key="lck"'}),
                       ('no_lock', {'RB_CONF': 'redbeat_lock_key=null'}), ('lock_timeout', {'RB_CONF': 'redbeat_lock_timeout=60'})):
        flush()
        b = beat('conf-' + title, **env)
        wait_log(b, 'Acquired lock', 4)
        time.sleep(4)
        out[title] = {'keys': dump(), 'log': log_of(b, '(lock|Lock)')[:4]}
        stop(b)
        out[title]['keys_after_stop'] = sorted(r.keys('*'))
    write('redbeat_settings.json', dict({'note': 'app timezone and RedBeat settings: what is stored'}, **out))
    flush()


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('--redis', default=ROOT)
    ROOT = ap.parse_args().redis
    app.conf.update(broker_url=ROOT + '/1', redbeat_redis_url=ROOT + '/0')
    try:
        run()
    finally:
        for p in procs:
            stop(p)
