"""Produce golden wire samples from a real Celery installation.

Usage (a private, empty redis-server is required; it is FLUSHED):

    pip install 'celery==5.7.0' 'kombu==5.7.0' redis msgpack pyyaml \
        backports.zstd brotli celery-redbeat
    redis-server --port 16391 --save '' &
    python capture.py --redis redis://127.0.0.1:16391 [--only messages,results,...]

The same file is the Celery application module (`celery -A capture worker`).
Everything is written to ../vectors (or --out), one folder per topic.
"""
import argparse
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(os.path.dirname(HERE), 'vectors')
ROOT = os.environ.get('VEC_REDIS', 'redis://127.0.0.1:16391')

from celery import Celery, chain, chord, group, signature  # noqa: E402
from celery.canvas import StampingVisitor  # noqa: E402
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded  # noqa: E402

app = Celery('vectors')
app.conf.update(
    broker_url=ROOT + '/0',
    result_backend=os.environ.get('VEC_BACKEND', ROOT + '/0'),
    broker_connection_retry_on_startup=False,
    task_send_sent_event=bool(os.environ.get('VEC_SENT_EVENT')),
    result_extended=bool(os.environ.get('VEC_EXTENDED')),
    worker_pool_restarts=True,
    worker_hijack_root_logger=False,
    worker_proc_alive_timeout=30,
    accept_content=['json', 'msgpack', 'yaml', 'pickle'],
)
if os.environ.get('VEC_PROTO'):
    app.conf.task_protocol = int(os.environ['VEC_PROTO'])


class DomainError(Exception):
    """A user exception with two arguments."""


class Outer:
    class Inner(Exception):
        """Nested class: exc_type becomes a dotted qualname."""


@app.task(name='vec.add')
def add(x, y):
    return x + y


@app.task(name='vec.mul')
def mul(x, y):
    return x * y


@app.task(name='vec.xsum')
def xsum(numbers):
    return sum(numbers)


@app.task(name='vec.echo')
def echo(*args, **kwargs):
    return {'args': list(args), 'kwargs': kwargs}


@app.task(name='vec.noop')
def noop(*args, **kwargs):
    return None


@app.task(name='vec.typed')
def typed():
    return {
        'dt': datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc),
        'naive': datetime(2026, 1, 2, 3, 4, 5),
        'd': date(2026, 1, 2),
        't': datetime(2026, 1, 2, 3, 4, 5).time(),
        'dec': Decimal('10.50'),
        'uuid': UUID('12345678-1234-5678-1234-567812345678'),
        'bytes': b'abc', 'bin': b'\xff\xfe\x00',
    }


@app.task(name='vec.fail')
def fail(msg='boom'):
    raise ValueError(msg)


@app.task(name='vec.fail_domain')
def fail_domain():
    raise DomainError('code', 42)


@app.task(name='vec.fail_nested')
def fail_nested():
    raise Outer.Inner('nested', Decimal('1.5'))


@app.task(name='vec.errback_old')
def errback_old(task_id):
    return task_id


@app.task(name='vec.errback_new')
def errback_new(request, exc, traceback):
    return repr(exc)


@app.task(name='vec.retry', bind=True, max_retries=2, default_retry_delay=0.2)
def retry_me(self, x):
    if self.request.retries < 1:
        raise self.retry(exc=ValueError('try again'))
    return x


@app.task(name='vec.retry_forever', bind=True, max_retries=1, default_retry_delay=0.1)
def retry_forever(self):
    raise self.retry()


@app.task(name='vec.autoretry', autoretry_for=(KeyError,), retry_backoff=1,
          retry_jitter=False, max_retries=1)
def autoretry():
    raise KeyError('k')


@app.task(name='vec.progress', bind=True)
def progress(self):
    self.update_state(state='PROGRESS', meta={'current': 3, 'total': 10})
    return 'done'


@app.task(name='vec.started', track_started=True)
def started():
    return 'ok'


@app.task(name='vec.sleep')
def sleep(s):
    time.sleep(s)
    return s


@app.task(name='vec.sleep_late', acks_late=True)
def sleep_late(s):
    time.sleep(s)
    return s


@app.task(name='vec.soft', soft_time_limit=0.5)
def soft():
    try:
        time.sleep(10)
    except SoftTimeLimitExceeded:
        raise


@app.task(name='vec.hard', time_limit=1)
def hard():
    time.sleep(10)


@app.task(name='vec.late', acks_late=True)
def late(x):
    return x


@app.task(name='vec.ignore', bind=True)
def ignore_me(self):
    raise Ignore()


@app.task(name='vec.reject')
def reject_me():
    raise Reject('no thanks', requeue=False)


@app.task(name='vec.reject_requeue', bind=True, acks_late=True)
def reject_requeue(self):
    if self.request.delivery_info.get('redelivered'):
        return 'second time'
    raise Reject('again', requeue=True)


@app.task(name='vec.die', acks_late=True)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name='vec.spawn', bind=True)
def spawn(self):
    add.apply_async((1, 1), task_id='child-of-spawn-1')
    return 'spawned'


@app.task(name='vec.replace', bind=True)
def replace(self, x):
    return self.replace(add.s(x, 100))


@app.task(name='vec.noresult', ignore_result=True)
def noresult():
    return 'nobody sees this'


@app.task(name='vec.limited', rate_limit='1/s')
def limited(x):
    return x


# --------------------------------------------------------------------------
# helpers

def det_uuid_factory():
    n = [0]

    def det():
        n[0] += 1
        return UUID('00000000-0000-4000-8000-%012d' % n[0])
    return det


def make_deterministic():
    """Fixed ids, origin, reply queue and clock for client side captures."""
    import celery.app.amqp as amqp_mod
    import celery.app.base as base_mod
    import kombu.utils.uuid  # noqa
    ku = sys.modules['kombu.utils.uuid']
    ku.uuid.__defaults__ = (det_uuid_factory(),)
    amqp_mod.anon_nodename = lambda: 'gen4242@client.example'
    fixed = 'aaaaaaaa-0000-3000-8000-000000000001'
    base_mod.Celery.thread_oid = property(lambda self: fixed)
    base_mod.Celery.oid = property(lambda self: fixed)
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
    app.now = lambda: now


def reset_ids():
    import kombu.utils.uuid  # noqa
    ku = sys.modules['kombu.utils.uuid']
    ku.uuid.__defaults__ = (det_uuid_factory(),)


def rds(db=0):
    import redis
    return redis.Redis.from_url(ROOT + '/%d' % db)


def jd(obj):
    return json.dumps(obj, indent=1, sort_keys=False, ensure_ascii=False,
                      default=repr) + '\n'


def _paths():
    """(machine path, neutral text): nothing of this host ends up in a file."""
    import celery
    site = os.path.dirname(os.path.dirname(celery.__file__))
    return [(HERE + '/capture.py', 'capture.py'), (HERE, 'project'),
            (site + '/', 'site-packages/'), (site, 'site-packages'),
            (sys.prefix, 'venv'), (os.path.realpath(sys.executable), 'python'),
            (sys.base_prefix, 'python-prefix'), (socket.gethostname() + '\\"', 'host.example\\"'),
            ('@' + socket.gethostname(), '@host.example')]


def scrub_text(text):
    for path, neutral in _paths():
        text = text.replace(path, neutral)

    def body(m):
        try:
            data = base64.b64decode(m.group(2), validate=True).decode('utf-8')
        except ValueError:
            return m.group(0)
        new = data
        for path, neutral in _paths():
            new = new.replace(path, neutral)
        if new == data:
            return m.group(0)
        return m.group(1) + base64.b64encode(new.encode()).decode()
    return re.sub(r'(\\*"body\\*": ?\\*")([A-Za-z0-9+/=]+)', body, text)


def write(folder, name, obj):
    d = os.path.join(OUT, folder)
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, name), 'w') as fh:
        fh.write(scrub_text(obj if isinstance(obj, str) else jd(obj)))


def as_text(raw):
    """bytes -> JSON friendly: a str when utf-8, else {'base64': ...}."""
    try:
        return raw.decode('utf-8')
    except UnicodeDecodeError:
        return {'base64': base64.b64encode(raw).decode()}


def explain(raw):
    """Split a raw envelope into the pieces an implementer compares with."""
    env = json.loads(raw)
    out = {'envelope': env}
    enc = (env.get('properties') or {}).get('body_encoding')
    body = env.get('body')
    if enc == 'base64' and isinstance(body, str):
        data = base64.b64decode(body)
        comp = (env.get('headers') or {}).get('compression')
        if comp:
            from kombu.compression import decompress
            out['body_compressed_base64'] = body
            data = decompress(data, comp)
        if env.get('content-type') == 'application/json':
            out['body_text'] = data.decode('utf-8')
            out['body_json'] = json.loads(data)
        elif env.get('content-type') == 'application/x-yaml':
            out['body_text'] = data.decode('utf-8')
        else:
            from kombu.serialization import loads
            out['body_hex'] = data.hex()
            out['body_python_repr'] = repr(loads(
                data, env['content-type'], env['content-encoding'],
                accept=[env['content-type']]))
    return out


def read_back(queue_keys=('celery',)):
    """Everything that a client pushed, oldest first, per redis key."""
    r = rds()
    got = []
    for key in r.keys('*'):
        if r.type(key) != b'list':
            continue
        for raw in reversed(r.lrange(key, 0, -1)):
            got.append((key.decode('utf-8'), raw.decode('utf-8')))
    return got


class Monitor(threading.Thread):
    """Raw MONITOR reader; keeps (client, command, args) tuples."""
    LINE = re.compile(rb'^\+?(\d+\.\d+) \[(\d+) ([^\]]+)\] (.*)$')

    def __init__(self):
        super().__init__(daemon=True)
        host, port = re.match(r'redis://([^:/]+):(\d+)', ROOT).groups()
        self.sock = socket.create_connection((host, int(port)))
        self.sock.sendall(b'*1\r\n$7\r\nMONITOR\r\n')
        self.fh = self.sock.makefile('rb')
        assert self.fh.readline().startswith(b'+OK')
        self.rows = []
        self.start()

    @staticmethod
    def split(rest):
        args, cur, i, n = [], bytearray(), 0, len(rest)
        esc = {ord('n'): b'\n', ord('r'): b'\r', ord('t'): b'\t',
               ord('a'): b'\a', ord('b'): b'\b'}
        while i < n:
            if rest[i:i + 1] != b'"':
                i += 1
                continue
            i += 1
            cur = bytearray()
            while rest[i:i + 1] != b'"':
                c = rest[i]
                if c == 0x5c:
                    nxt = rest[i + 1]
                    if nxt == ord('x'):
                        cur.append(int(rest[i + 2:i + 4], 16))
                        i += 4
                        continue
                    cur += esc.get(nxt, bytes([nxt]))
                    i += 2
                    continue
                cur.append(c)
                i += 1
            i += 1
            args.append(bytes(cur))
        return args

    def run(self):
        try:
            for line in self.fh:
                m = self.LINE.match(line.rstrip(b'\r\n'))
                if m:
                    self.rows.append((float(m.group(1)), m.group(3).decode(),
                                      self.split(m.group(4))))
        except (OSError, ValueError):
            pass

    def stop(self):
        time.sleep(0.2)
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.join(2)
        return self.rows


def transcript(rows, skip=()):
    """MONITOR rows -> stable text: clients become C1, C2..., lua is marked."""
    names, out, t0 = {}, [], rows[0][0] if rows else 0
    for ts, client, args in rows:
        cmd = args[0].decode().upper() if args else ''
        if cmd in ('CLIENT', 'HELLO', 'INFO', 'COMMAND') or cmd in skip:
            continue
        if client == 'lua':
            who = '  lua'
        else:
            who = names.setdefault(client, 'C%d' % (len(names) + 1))
        shown = []
        for a in args:
            try:
                s = a.decode('utf-8')
            except UnicodeDecodeError:
                s = repr(a)[2:-1]
            if len(s) > 900:
                s = s[:900] + '...(%d chars)' % len(s)
            shown.append(json.dumps(s, ensure_ascii=False))
        out.append('%+9.4f %-6s %s' % (ts - t0, who, ' '.join(shown)))
    return '\n'.join(out) + '\n'


class Sub(threading.Thread):
    """psubscribe and keep (channel, raw)."""

    def __init__(self, *patterns):
        super().__init__(daemon=True)
        self.ps = rds().pubsub()
        self.ps.psubscribe(*patterns)
        for _ in patterns:
            self.ps.get_message(timeout=2)
        self.got, self.on = [], True
        self.start()

    def run(self):
        while self.on:
            m = self.ps.get_message(timeout=0.2)
            if m and m['type'] == 'pmessage':
                self.got.append((m['channel'].decode(), m['data']))

    def stop(self):
        self.on = False
        self.join(2)
        self.ps.close()
        return self.got


class Worker:
    def __init__(self, *args, env=None, name='w1@vectors.example', wait=True):
        e = dict(os.environ, VEC_REDIS=ROOT, PYTHONDONTWRITEBYTECODE='1', C_FORCE_ROOT='1',
                 **(env or {}))
        self.name = name
        self.log = open(os.path.join(HERE, '.worker.log'), 'ab')
        self.p = subprocess.Popen(
            [sys.executable, '-m', 'celery', '-A', 'capture', 'worker',
             '-n', name, '-l', 'INFO', *args],
            cwd=HERE, env=e, stdout=self.log, stderr=subprocess.STDOUT)
        if wait:
            for _ in range(100):
                if self.p.poll() is not None:
                    raise SystemExit('worker died, see .worker.log')
                try:
                    if app.control.ping(destination=[name], timeout=0.5):
                        break
                except Exception:
                    time.sleep(0.3)

    def stop(self, sig=signal.SIGTERM, timeout=40):
        if self.p.poll() is None:
            self.p.send_signal(sig)
            try:
                self.p.wait(timeout)
            except subprocess.TimeoutExpired:
                self.p.kill()
        self.log.close()


# --------------------------------------------------------------------------
# messages

class Stamper(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {'tenant': 'acme', 'trace': ['t1', 't2'],
                'stamped_headers': ['tenant', 'trace']}


def message_cases():
    utc = timezone.utc
    eta = datetime(2026, 1, 1, 12, 5, 0, 250000, tzinfo=utc)
    tid = {'task_id': '11111111-1111-4111-8111-111111111111'}

    def mk(name, note, fn):
        return name, note, fn

    return [
        mk('simple', "add.apply_async((2, 2))", lambda: add.apply_async((2, 2), **tid)),
        mk('kwargs_unicode', "unicode args and kwargs",
           lambda: echo.apply_async(('żółć', '日本', 1.5, None, True), {'k€y': ['a', {'n': 1}]}, **tid)),
        mk('typed_json', "datetime/date/time/Decimal/UUID/bytes through kombu typed JSON",
           lambda: echo.apply_async((
               datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=utc), datetime(2026, 1, 2, 3, 4, 5),
               date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5).time(), Decimal('10.50'),
               UUID('12345678-1234-5678-1234-567812345678'), b'abc', b'\xff\xfe\x00', {1, 2} and [1, 2]), {}, **tid)),
        mk('eta_aware', "eta as aware datetime", lambda: add.apply_async((1, 2), eta=eta, **tid)),
        mk('eta_naive', "eta as naive datetime (app timezone UTC)",
           lambda: add.apply_async((1, 2), eta=datetime(2026, 1, 1, 12, 5, 0), **tid)),
        mk('countdown', "countdown=10, app clock frozen at 2026-01-01T12:00:00Z",
           lambda: add.apply_async((1, 2), countdown=10, **tid)),
        mk('expires_seconds', "expires=30 (also sets AMQP expiration property)",
           lambda: add.apply_async((1, 2), expires=30, **tid)),
        mk('expires_datetime', "expires as aware datetime", lambda: add.apply_async((1, 2), expires=eta, **tid)),
        mk('priority_5', "priority=5 -> key celery\\x06\\x163", lambda: add.apply_async((1, 2), priority=5, **tid)),
        mk('priority_9', "priority=9 -> key celery\\x06\\x169", lambda: add.apply_async((1, 2), priority=9, **tid)),
        mk('link', "two link callbacks",
           lambda: add.apply_async((1, 2), link=[mul.s(10), noop.si('x')], **tid)),
        mk('link_error', "old and new style errbacks",
           lambda: fail.apply_async((), link_error=[errback_old.s(), errback_new.s()], **tid)),
        mk('time_limits', "time_limit=60, soft_time_limit=30 (order in header: hard, soft)",
           lambda: add.apply_async((1, 2), time_limit=60, soft_time_limit=30, **tid)),
        mk('ignore_result_shadow', "ignore_result=True, shadow name, custom header",
           lambda: add.apply_async((1, 2), ignore_result=True, shadow='pretty.name',
                                   headers={'x-custom': 'v'}, **tid)),
        mk('argsrepr', "explicit argsrepr/kwargsrepr",
           lambda: add.apply_async((1, 2), argsrepr="('***',)", kwargsrepr="{'pw': '***'}", **tid)),
        mk('custom_queue', "queue='video' (auto-created direct queue)",
           lambda: add.apply_async((1, 2), queue='video', **tid)),
        mk('reply_to_explicit', "reply_to and correlation", lambda: add.apply_async((1, 2), reply_to='some-queue', **tid)),
        mk('chain3', "chain(add(2,2), add(4), add(8)): header chain list is REVERSED",
           lambda: chain(add.s(2, 2), add.s(4), add.s(8)).apply_async()),
        mk('chain_link_error', "chain with link_error: errback copied to each task",
           lambda: chain(add.s(2, 2), add.s(4)).apply_async(link_error=errback_old.s())),
        mk('group3', "group of 3: three messages with the same group id",
           lambda: group(add.s(i, i) for i in range(3)).apply_async()),
        mk('chord', "chord([add, add])(xsum)",
           lambda: chord([add.s(1, 1), add.s(2, 2)])(xsum.s())),
        mk('chord_in_chain', "chain(add, group(add, add), xsum, mul)",
           lambda: chain(add.s(1, 1), group(add.s(2), add.s(3)), xsum.s(), mul.s(10)).apply_async()),
        mk('nested_canvas', "chain(group(chain(add,add), add), xsum, group(add, mul))",
           lambda: chain(group(chain(add.s(1, 1), add.s(2)), add.s(3, 3)), xsum.s(),
                         group(add.s(1), mul.s(2))).apply_async()),
        mk('chord_in_chord', "a chord whose header contains a chord",
           lambda: chord([chord([add.s(1, 1), add.s(2, 2)], xsum.s()), add.s(5, 5)])(xsum.s())),
        mk('group_of_chains', "group(chain(add, mul), chain(add, mul))",
           lambda: group(chain(add.s(1, 1), mul.s(2)), chain(add.s(2, 2), mul.s(3))).apply_async()),
        mk('xmap', "add.starmap", lambda: add.starmap([(1, 2), (3, 4)]).apply_async(**tid)),
        mk('chunks', "add.chunks(zip, 2)",
           lambda: add.chunks(zip(range(4), range(4)), 2).apply_async()),
        mk('stamped', "StampingVisitor with tenant and trace on a linked task",
           lambda: _stamped().apply_async(**tid)),
        mk('stamped_chain', "stamped chain", lambda: _stamped_chain().apply_async()),
        mk('msgpack', "serializer=msgpack", lambda: add.apply_async((2, 'é'), serializer='msgpack', **tid)),
        mk('yaml', "serializer=yaml", lambda: add.apply_async((2, 'é'), serializer='yaml', **tid)),
        mk('pickle', "serializer=pickle", lambda: add.apply_async((2, 'é'), serializer='pickle', **tid)),
        mk('gzip', "compression=gzip (really a zlib stream)",
           lambda: add.apply_async((2, 'x' * 64), compression='gzip', **tid)),
        mk('bzip2', "compression=bzip2", lambda: add.apply_async((2, 'x' * 64), compression='bzip2', **tid)),
        mk('zstd', "compression=zstd", lambda: add.apply_async((2, 'x' * 64), compression='zstd', **tid)),
        mk('brotli', "compression=brotli", lambda: add.apply_async((2, 'x' * 64), compression='brotli', **tid)),
        mk('lzma', "compression=lzma (xz container)",
           lambda: add.apply_async((2, 'x' * 64), compression='lzma', **tid)),
        mk('send_task_unregistered', "app.send_task of a name this client does not know",
           lambda: app.send_task('other.task', (1,), {'a': 2}, **tid)),
    ]


def _stamped():
    s = add.s(1, 2)
    s.link(mul.s(3))
    s.stamp(Stamper())
    return s


def _stamped_chain():
    c = chain(add.s(1, 2), mul.s(3))
    c.stamp(Stamper())
    return c


def do_messages():
    r = rds()
    for proto, folder in ((2, 'messages'),):
        for name, note, fn in message_cases():
            r.flushall()
            reset_ids()
            app.amqp.__dict__.pop('create_task_message', None)
            mon = Monitor()
            try:
                fn()
            except Exception as exc:
                mon.stop()
                write(folder, name + '.json', {'note': note, 'error': repr(exc)})
                continue
            mon.stop()
            msgs = []
            for key, raw in read_back():
                m = {'redis_key': key, 'raw': raw}
                m.update(explain(raw))
                msgs.append(m)
            # order of publication
            order = [a[2].decode('utf-8') for _, _, a in mon.rows if a[0].upper() == b'LPUSH']
            msgs.sort(key=lambda m: order.index(m['raw']) if m['raw'] in order else 99)
            other = {}
            for key in r.keys('celery-task*'):
                t = r.type(key).decode()
                v = {'string': lambda: as_text(r.get(key)),
                     'set': lambda: sorted(map(as_text, r.smembers(key)))}.get(t, lambda: t)()
                other[key.decode()] = {'type': t, 'ttl': r.ttl(key), 'value': v}
            out = {'note': note, 'how': 'client only, no worker; ids from a counter; '
                   'clock frozen at 2026-01-01T12:00:00Z', 'messages': msgs}
            if other:
                out['backend_keys_created_by_client'] = other
            write(folder, name + '.json', out)
    # protocol 1
    app.conf.task_protocol = 1
    for k in ('create_task_message', 'send_task_message'):
        app.amqp.__dict__.pop(k, None)
    for name, note, fn in message_cases():
        if name not in ('simple', 'countdown', 'expires_seconds', 'link', 'chain3', 'group3', 'chord', 'time_limits'):
            continue
        r.flushall()
        reset_ids()
        fn()
        msgs = [dict({'redis_key': k, 'raw': raw}, **explain(raw)) for k, raw in read_back()]
        write('messages', 'proto1_%s.json' % name,
              {'note': 'task_protocol=1: ' + note, 'messages': msgs})
    app.conf.task_protocol = 2
    for k in ('create_task_message', 'send_task_message'):
        app.amqp.__dict__.pop(k, None)
    # signature dicts
    sigs = {
        'task': add.s(2, 2), 'immutable': add.si(2, 2), 'with_options': add.s(2).set(queue='q', countdown=3),
        'partial_kwargs': echo.s(1, a=2), 'chain': chain(add.s(1, 1), add.s(2)),
        'group': group(add.s(1, 1), add.s(2, 2)), 'chord': chord([add.s(1, 1), add.s(2, 2)], xsum.s()),
        'xmap': xsum.map([[1], [2]]), 'starmap': add.starmap([(1, 2)]), 'chunks': add.chunks([(1, 2), (3, 4)], 1),
        'linked': _linked(),
    }
    reset_ids()
    frozen = chord([add.s(1, 1), add.s(2, 2)], xsum.s())
    frozen.freeze()
    sigs['chord_frozen'] = frozen
    write('messages', 'signatures.json', {
        'note': 'json form of unsent signatures (kombu json)',
        'signatures': {k: json.loads(_kjson(v)) for k, v in sigs.items()}})
    r.flushall()


def _linked():
    s = add.s(1, 1)
    s.link(mul.s(2))
    s.link_error(errback_old.s())
    return s


def _kjson(o):
    from kombu.utils.json import dumps
    return dumps(o)


# --------------------------------------------------------------------------
# results

def wait_keys(pred, timeout=20):
    end = time.time() + timeout
    while time.time() < end:
        if pred():
            return True
        time.sleep(0.1)
    return False


def result_cases():
    ids = {
        'success': lambda i: add.apply_async((2, 3), task_id=i),
        'success_typed': lambda i: typed.apply_async((), task_id=i),
        'success_children': lambda i: spawn.apply_async((), task_id=i),
        'success_link_children': lambda i: add.apply_async((2, 3), link=mul.s(10).set(task_id='linked-mul'), task_id=i),
        'failure': lambda i: fail.apply_async(('boom é',), task_id=i),
        'failure_domain': lambda i: fail_domain.apply_async((), task_id=i),
        'failure_nested_class': lambda i: fail_nested.apply_async((), task_id=i),
        'retry_then_success': lambda i: retry_me.apply_async((7,), task_id=i),
        'max_retries': lambda i: retry_forever.apply_async((), task_id=i),
        'progress_custom': lambda i: progress.apply_async((), task_id=i),
        'started_then_success': lambda i: started.apply_async((), task_id=i),
        'soft_time_limit': lambda i: soft.apply_async((), task_id=i),
        'hard_time_limit': lambda i: hard.apply_async((), task_id=i),
        'expired': lambda i: add.apply_async((1, 1), task_id=i, expires=datetime(2020, 1, 1, tzinfo=timezone.utc)),
        'unregistered': lambda i: app.send_task('no.such.task', (1,), task_id=i),
        'reject': lambda i: reject_me.apply_async((), task_id=i),
        'ignore': lambda i: ignore_me.apply_async((), task_id=i),
        'worker_lost': lambda i: die.apply_async((), task_id=i),
        'replaced': lambda i: replace.apply_async((5,), task_id=i),
        'ignored_result': lambda i: noresult.apply_async((), task_id=i),
        'errback_old_style': lambda i: fail.apply_async((), link_error=errback_old.s().set(task_id='eb-old'), task_id=i),
        'errback_new_style': lambda i: fail.apply_async((), link_error=errback_new.s(), task_id=i),
        'bad_args': lambda i: app.send_task('vec.add', (1,), task_id=i),
    }
    return ids


def do_results():
    for ext in (False, True):
        rds().flushall()
        env = {'VEC_EXTENDED': '1'} if ext else {}
        w = Worker('-c', '1', '--without-gossip', '--without-mingle', env=env)
        folder = 'results_extended' if ext else 'results'
        cases = result_cases()
        if ext:
            cases = {k: v for k, v in cases.items() if k in (
                'success', 'failure', 'success_children', 'retry_then_success',
                'progress_custom', 'started_then_success', 'unregistered', 'success_typed')}
        for name, fn in cases.items():
            tid = 'vec-%s' % name
            sub = Sub('celery-task-meta-*', 'celery-taskset-meta-*')
            mon = Monitor()
            fn(tid)
            wait_keys(lambda: any(json.loads(d)['status'] in ('SUCCESS', 'FAILURE', 'REVOKED')
                                  for c, d in list(sub.got) if c.endswith(tid)),
                      6 if name not in ('ignore', 'ignored_result') else 2)
            time.sleep(0.6)
            pubs = sub.stop()
            rows = mon.stop()
            key = 'celery-task-meta-' + tid
            raw = rds().get(key)
            write(folder, name + '.json', {
                'note': 'real worker (prefork, c=1); result_extended=%s; every PUBLISH on the meta channels, '
                        'then the final stored value' % ext,
                'key': key, 'ttl': rds().ttl(key),
                'final_raw': raw.decode() if raw else None,
                'final': json.loads(raw) if raw else None,
                'published': [{'channel': c, 'raw': d.decode(), 'json': json.loads(d)} for c, d in pubs],
                'backend_commands': [
                    ' '.join(a.decode('utf-8', 'replace')[:60] for a in args[:3])
                    for _, cl, args in rows
                    if args[0].upper() in (b'SETEX', b'SET', b'GET', b'PUBLISH', b'MULTI', b'EXEC', b'DEL')
                    and (len(args) < 2 or b'celeryev' not in args[1])],
            })
        # groups and chords
        gid_cases = {
            'group_saved': lambda: _save_group(),
            'chord_success': lambda: chord([add.s(1, 1), add.s(2, 2)])(xsum.s()),
            'chord_header_error': lambda: chord([add.s(1, 1), fail.s('in header')])(xsum.s()),
            'chord_nested_group_header': lambda: chord(
                [add.s(1, 1), group(add.s(2, 2), add.s(3, 3))])(noop.s()),
            'chain_failure_propagation': lambda: chain(add.s(1, 1), fail.si('mid'), add.s(5), mul.s(2)).apply_async(),
            'chain_with_group_end': lambda: chain(add.s(1, 1), group(add.s(1), add.s(2))).apply_async(),
        }
        for name, fn in gid_cases.items():
            r = rds()
            for k in r.keys('celery-task*'):
                r.delete(k)
            sub = Sub('celery-task-meta-*', 'celery-taskset-meta-*')
            mon = Monitor()
            res = fn()
            time.sleep(2.5)
            pubs, rows = sub.stop(), mon.stop()
            final = {}
            for k in sorted(r.keys('celery-task*')):
                t = r.type(k).decode()
                v = as_text(r.get(k)) if t == 'string' else \
                    [[as_text(m), s] for m, s in r.zrange(k, 0, -1, withscores=True)] if t == 'zset' else \
                    sorted(map(as_text, r.smembers(k))) if t == 'set' else t
                final[k.decode()] = {'type': t, 'ttl': r.ttl(k), 'value': v}
            write(folder, name + '.json', {
                'note': 'result_extended=%s' % ext, 'result_as_tuple': res.as_tuple(),
                'published': [{'channel': c, 'raw': d.decode()} for c, d in pubs],
                'final_keys': final})
            if not ext:
                write('monitor', 'backend_%s.txt' % name, transcript(
                    [x for x in rows if not any(b'celeryev' in a or b'pidbox' in a for a in x[2])],
                    skip=('BRPOP', 'PING')))
        w.stop()
    # chord half way: one header task done, the other still running
    rds().flushall()
    w = Worker('-c', '1', '--without-gossip', '--without-mingle')
    chord([add.s(1, 1), sleep.s(3)])(xsum.s())
    time.sleep(1.5)
    r, snap = rds(), {}
    for k in sorted(r.keys('celery-taskset*')):
        t = r.type(k).decode()
        v = as_text(r.get(k)) if t == 'string' else \
            [[as_text(m), s] for m, s in r.zrange(k, 0, -1, withscores=True)] if t == 'zset' else \
            sorted(map(as_text, r.smembers(k)))
        snap[k.decode()] = {'type': t, 'ttl': r.ttl(k), 'value': v}
    write('results', 'chord_halfway_keys.json', {
        'note': 'keys of a chord after 1 of 2 header tasks finished', 'keys': snap})
    time.sleep(2.5)
    w.stop()
    # rpc backend
    rds().flushall()
    w = Worker('-c', '1', '--without-gossip', '--without-mingle', env={'VEC_BACKEND': 'rpc://'})
    rpc = Celery('rpcclient', broker=ROOT + '/0', backend='rpc://')
    mon = Monitor()
    x = rpc.send_task('vec.add', (4, 5), task_id='vec-rpc-1')
    val = x.get(timeout=10)
    rows = mon.stop()
    write('monitor', 'rpc_backend.txt', transcript(
        [q for q in rows if not any(b'celeryev' in a for a in q[2])], skip=('PING',)))
    replies = [(a[1].decode(), a[2].decode()) for _, _, a in rows if a[0] == b'LPUSH' and a[1] != b'celery']
    write('results', 'rpc_reply.json', {'note': 'reply message pushed by the worker for the rpc:// backend; value %r' % val,
          'replies': [dict({'redis_key': k, 'raw': v}, **explain(v)) for k, v in replies]})
    w.stop()


def _save_group():
    g = group(add.s(1, 1), add.s(2, 2)).apply_async()
    g.save()
    return g


# --------------------------------------------------------------------------
# events

def do_events():
    rds().flushall()
    sub = Sub('/0.celeryev*')
    w = Worker('-c', '1', '-E')
    app.conf.task_send_sent_event = True
    app.amqp.__dict__.pop('send_task_message', None)
    add.apply_async((1, 2), task_id='ev-ok', countdown=0.5)
    add.apply_async((1, 2), task_id='ev-expires', expires=60)
    fail.apply_async((), task_id='ev-fail')
    retry_me.apply_async((7,), task_id='ev-retry')
    reject_me.apply_async((), task_id='ev-reject')
    add.apply_async((1, 1), task_id='ev-expired', expires=datetime(2020, 1, 1, tzinfo=timezone.utc))
    app.send_task('no.such.task', task_id='ev-unknown')
    time.sleep(3)
    sleep.apply_async((20,), task_id='ev-terminate')
    time.sleep(1)
    app.control.revoke('ev-terminate', terminate=True)
    app.control.revoke('ev-revoked')
    time.sleep(0.5)
    add.apply_async((1, 2), task_id='ev-revoked')
    hard.apply_async((), task_id='ev-hard')
    time.sleep(2.5)
    reject_requeue.apply_async((), task_id='ev-reject-requeue')
    chain(add.s(1, 1).set(task_id='ev-chain-1'), mul.s(3).set(task_id='ev-chain-2')).apply_async()
    time.sleep(1)
    app.control.broadcast('heartbeat')
    time.sleep(0.5)
    # last: an election with a single candidate kills a 5.7.0 worker (IndexError in the clock's heap sort)
    app.control.election('elect-1', 'task', None)
    time.sleep(1.5)
    write('events', '_election_crash.txt', ''.join(
        ln for ln in open(os.path.join(HERE, '.worker.log'), errors='replace').readlines()[-14:]))
    w.stop()
    time.sleep(0.3)
    got = sub.stop()
    app.conf.task_send_sent_event = False
    app.amqp.__dict__.pop('send_task_message', None)
    seen, multi = {}, None
    counts = {}
    for channel, raw in got:
        env = json.loads(raw)
        body = json.loads(base64.b64decode(env['body']))
        evs = body if isinstance(body, list) else [body]
        for ev in evs:
            counts[ev['type']] = counts.get(ev['type'], 0) + 1
            seen.setdefault(ev['type'], []).append((channel, raw.decode(), ev))
        if isinstance(body, list) and (multi is None or len(body) > len(multi[2])):
            multi = (channel, raw.decode(), body)
    for typ, rows in seen.items():
        write('events', typ + '.json', {
            'note': 'worker -E over redis; events of this type (%d seen, up to 4 shown); a body that is a '
                    'list arrives on .../task.multi' % counts[typ],
            'first_channel': rows[0][0], 'first_raw': rows[0][1],
            'events': [r[2] for r in rows[:4]]})
    if multi:
        write('events', '_multi_envelope.json', {
            'note': 'largest batched message', 'channel': multi[0], 'raw': multi[1],
            'envelope': json.loads(multi[1]), 'body': multi[2]})
    write('events', '_order.json', {
        'note': 'order of (channel, types) as published',
        'order': [[c, [e['type'] for e in (b if isinstance(b, list) else [b])]]
                  for c, b in ((c, json.loads(base64.b64decode(json.loads(r)['body']))) for c, r in got)]})


# --------------------------------------------------------------------------
# control

def do_control():
    rds().flushall()
    w = Worker('-c', '2', '--autoscale=2,1')
    w2 = Worker('-c', '1', name='w2@vectors.example')
    sleep.apply_async((90,), task_id='ctl-active-1')
    sleep.apply_async((14,), task_id='ctl-active-2')
    sleep.apply_async((14,), task_id='ctl-active-3')
    sleep.apply_async((14,), task_id='ctl-active-4')
    for i in range(4):
        add.apply_async((i, i), {}, task_id='ctl-reserved-%d' % i)
    add.apply_async((1, 1), countdown=600, task_id='ctl-scheduled', priority=3)
    echo.apply_async(({'a': [1, 2]},), {'k': 'v'}, countdown=700, task_id='ctl-scheduled-2')
    time.sleep(1.5)
    both = None
    one = [w.name]
    two = [w2.name]
    calls = [
        ('ping', {}, both), ('active', {}, both), ('active_safe', {'safe': True}, both),
        ('scheduled', {}, both), ('reserved', {}, both), ('revoke', {'task_id': ['ctl-x1', 'ctl-x2']}, both),
        ('revoke_str', {'task_id': 'ctl-x3', 'terminate': False, 'signal': 'SIGTERM'}, both),
        ('revoked', {}, both), ('registered', {}, one),
        ('registered_items', {'taskinfoitems': ['rate_limit', 'time_limit', 'acks_late']}, one),
        ('stats', {}, one), ('active_queues', {}, one), ('conf', {'with_defaults': False}, one),
        ('query_task', {'ids': ['ctl-active-1', 'ctl-reserved-0', 'ctl-scheduled', 'nope']}, both),
        ('clock', {}, both), ('report', {}, one), ('memsample', {}, one), ('memdump', {'samples': 3}, one),
        ('rate_limit', {'task_name': 'vec.add', 'rate_limit': '10/m'}, both),
        ('rate_limit_unknown', {'task_name': 'nope', 'rate_limit': '10/m'}, one),
        ('rate_limit_bad', {'task_name': 'vec.add', 'rate_limit': 'abc'}, one),
        ('rate_limit_off', {'task_name': 'vec.add', 'rate_limit': 0}, both),
        ('time_limit', {'task_name': 'vec.add', 'hard': 30, 'soft': 20}, one),
        ('add_consumer', {'queue': 'extra', 'exchange': None, 'exchange_type': 'direct', 'routing_key': None}, one),
        ('cancel_consumer', {'queue': 'extra'}, one),
        ('enable_events', {}, both), ('enable_events_again', {}, both), ('disable_events', {}, both),
        ('disable_events_again', {}, both),
        ('heartbeat', {}, one), ('autoscale', {'max': 3, 'min': 1}, one), ('autoscale_off', {'max': 3, 'min': 1}, two),
        ('pool_grow', {'n': 1}, two), ('pool_grow_autoscaled', {'n': 1}, one), ('pool_shrink', {'n': 1}, two),
        ('revoke_by_stamped_headers', {'headers': {'tenant': ['acme']}, 'terminate': False, 'signal': 'SIGTERM'}, one),
        ('revoke_by_stamped_headers_terminate', {'headers': {'tenant': ['zzz']}, 'terminate': True, 'signal': 'SIGTERM'}, one),
        ('hello', {'from_node': 'probe@vectors.example', 'revoked': ['ctl-x9']}, one),
        ('terminate', {'task_id': 'nope', 'signal': 'TERM'}, one),
        ('revoke_terminate', {'task_id': ['ctl-active-1'], 'terminate': True, 'signal': 'SIGTERM'}, both),
        ('no_such_command', {}, one),
        ('rate_limit_missing_arg', {'task_name': 'vec.add'}, one),
        ('ping_extra_arg', {'surprise': 1}, one), ('enable_events_extra_arg', {'surprise': 1}, one),
        ('pool_restart', {'modules': None, 'reload': False}, two),
        ('election', {'id': 'el-1', 'topic': 'task', 'action': None}, two),
    ]
    for name, arguments, dest in calls:
        method = name
        for base in sorted(app_commands(), key=len, reverse=True):
            if name == base or name.startswith(base + '_'):
                method = base
                break
        sub = Sub('/0.celery.pidbox*')
        mon = Monitor()
        replies = app.control.broadcast(method, arguments=arguments, reply=True, timeout=1.5,
                                        destination=dest)
        req = sub.stop()
        rows = mon.stop()
        raw_replies = [(a[1].decode(), a[2].decode('utf-8', 'replace')) for _, _, a in rows
                       if a[0] == b'LPUSH' and b'reply.celery.pidbox' in a[1]]
        out = {'note': 'two workers up: w1 (autoscale 2,1) and w2; MONITOR capture', 'method': method,
               'arguments': arguments, 'destination': dest,
               'request_channel': req[0][0] if req else None,
               'request_raw': req[0][1].decode() if req else None,
               'request_body': explain(req[0][1])['body_json'] if req else None,
               'reply_raw': [{'redis_key': k, 'raw': v if len(v) < 6000 else v[:600] + '...'} for k, v in raw_replies],
               'replies': replies}
        write('control', name + '.json', out)
        if name == 'ping':
            write('monitor', 'control_ping.txt', transcript(
                [x for x in rows if not any(b'celeryev' in a for a in x[2])], skip=()))
    # pattern/matcher
    sub = Sub('/0.celery.pidbox*')
    rep = app.control.broadcast('ping', reply=True, timeout=1, pattern='w2@*', matcher='glob')
    req = sub.stop()
    write('control', 'ping_pattern_glob.json', {
        'note': 'pattern + matcher=glob', 'request_raw': req[0][1].decode(),
        'request_body': explain(req[0][1])['body_json'], 'replies': rep})
    # shutdown of w2
    sub = Sub('/0.celery.pidbox*')
    app.control.shutdown(destination=two)
    time.sleep(1)
    req = sub.stop()
    write('control', 'shutdown.json', {
        'note': 'broadcast without reply', 'request_raw': req[0][1].decode(),
        'request_body': explain(req[0][1])['body_json'], 'replies': None})
    w2.stop()
    w.stop(signal.SIGQUIT)


def app_commands():
    from celery.worker.control import Panel
    return list(Panel.data)


# --------------------------------------------------------------------------
# monitor transcripts

def do_monitor():
    r = rds()
    r.flushall()
    quiet = ('--without-gossip', '--without-mingle', '--without-heartbeat', '-c', '1')

    def keep(rows, *drop):
        return [x for x in rows if not any(d in a for a in x[2] for d in drop)]

    # publish: fresh client process, first and second message
    code = ("import capture as c\n"
            "c.add.apply_async((1, 2), task_id='pub-1')\n"
            "c.add.apply_async((3, 4), task_id='pub-2', priority=4)\n"
            "c.add.apply_async((5, 6), task_id='pub-3', queue='other')\n")
    mon = Monitor()
    subprocess.run([sys.executable, '-c', code], cwd=HERE, env=dict(os.environ, PYTHONDONTWRITEBYTECODE='1'), check=True)
    write('monitor', 'publish.txt', transcript(mon.stop()))
    r.flushall()
    # worker start, minimal and full
    mon = Monitor()
    w = Worker(*quiet, wait=False)
    time.sleep(4)
    write('monitor', 'worker_start_minimal.txt', transcript(mon.stop()))
    cases = {
        'consume_ack_early': lambda: add.apply_async((1, 2), task_id='m-early'),
        'consume_ack_late': lambda: late.apply_async((1,), task_id='m-late'),
        'eta': lambda: add.apply_async((1, 2), countdown=1, task_id='m-eta'),
        'retry': lambda: retry_me.apply_async((1,), task_id='m-retry'),
        'reject_requeue': lambda: reject_requeue.apply_async((), task_id='m-requeue'),
        'chain2': lambda: chain(add.s(1, 1), mul.s(3)).apply_async(),
        'chord_completion': lambda: chord([add.s(1, 1), add.s(2, 2)])(xsum.s()),
        'unknown_task': lambda: app.send_task('no.such', task_id='m-unknown'),
        'purge': lambda: (time.sleep(0.1), app.control.purge()),
    }
    for name, fn in cases.items():
        mon = Monitor()
        fn()
        time.sleep(3)
        write('monitor', name + '.txt', transcript(mon.stop()))
    # malformed messages
    mon = Monitor()
    rr = rds()
    ok = json.loads(rr.lrange('x', 0, 0)[0]) if rr.exists('x') else None
    base = {'body': base64.b64encode(b'[[1,2],{},{}]').decode(), 'content-encoding': 'utf-8',
            'content-type': 'application/json', 'headers': {}, 'properties': {
                'delivery_info': {'exchange': '', 'routing_key': 'celery'}, 'delivery_tag': 'bad-1',
                'body_encoding': 'base64', 'delivery_mode': 2}}
    rr.lpush('celery', json.dumps(base))
    b2 = json.loads(json.dumps(base))
    b2['properties']['delivery_tag'] = 'bad-2'
    b2['headers'] = {'task': 'vec.add', 'id': 'bad-2', 'lang': 'py'}
    b2['body'] = base64.b64encode(b'{not json').decode()
    rr.lpush('celery', json.dumps(b2))
    b3 = json.loads(json.dumps(base))
    b3['properties']['delivery_tag'] = 'bad-3'
    b3['headers'] = {'task': 'vec.add', 'id': 'bad-3', 'lang': 'py', 'eta': 'not-a-date'}
    rr.lpush('celery', json.dumps(b3))
    b4 = json.loads(json.dumps(base))
    b4['properties']['delivery_tag'] = 'min-4'
    b4['headers'] = {'task': 'vec.add', 'id': 'min-4'}
    rr.lpush('celery', json.dumps(b4))
    time.sleep(2.5)
    write('monitor', 'malformed_and_minimal.txt', transcript(mon.stop()))
    # warm shutdown with prefetched and running messages
    sleep_late.apply_async((2,), task_id='m-sd-0')
    for i in range(4):
        add.apply_async((i, i), task_id='m-sd-%d' % (i + 1))
    time.sleep(0.7)
    mon = Monitor()
    w.stop()
    write('monitor', 'shutdown_restore.txt', transcript(mon.stop()))
    r.flushall()
    # full start: mingle + gossip with a neighbour present
    w1 = Worker('-c', '1')
    mon = Monitor()
    w2 = Worker('-c', '1', name='w2@vectors.example', wait=False)
    time.sleep(6)
    write('monitor', 'worker_start_full_with_neighbour.txt', transcript(mon.stop()))
    w2.stop()
    w1.stop()
    # visibility timeout restore
    r.flushall()
    tag = 'stale-1'
    env = json.loads(json.dumps(base))
    env['headers'] = {'task': 'vec.add', 'id': 'stale-1', 'lang': 'py'}
    env['properties']['delivery_tag'] = tag
    env['properties']['priority'] = 0
    r.sadd('_kombu.binding.celery', 'celery\x06\x16\x06\x16celery')
    r.hset('unacked', tag, json.dumps([env, '', 'celery']))
    r.zadd('unacked_index', {tag: time.time() - 7200})
    mon = Monitor()
    w = Worker(*quiet, wait=False)
    time.sleep(6)
    write('monitor', 'visibility_restore.txt', transcript(mon.stop()))
    w.stop()
    r.flushall()


# --------------------------------------------------------------------------
# beat

def do_beat():
    from celery.schedules import crontab, schedule as every
    from zoneinfo import ZoneInfo
    import itertools
    cases = []
    specs = [
        dict(), dict(minute='*/15'), dict(minute='0', hour='*/6'), dict(minute=30, hour=4),
        dict(minute='0', hour='0', day_of_week='mon-fri'), dict(minute='0', hour='9-17/2', day_of_week='sun'),
        dict(minute='5,10-20/5', hour='*'), dict(minute='0', hour='0', day_of_month='1'),
        dict(minute='0', hour='0', day_of_month='31'), dict(minute='0', hour='0', day_of_month='29', month_of_year='2'),
        dict(minute='0', hour='12', day_of_month='1-7', day_of_week='mon'),
        dict(minute='0', hour='3', month_of_year='jan,jul'), dict(minute='50-10/5', hour='22-2'),
        dict(minute='0', hour='2'), dict(minute='30', hour='2'), dict(minute='30', hour='1'),
        dict(minute='0', hour='0', day_of_week='fri-mon'), dict(minute='0', hour='0', day_of_month='2-30/2'),
        dict(minute='*/7', hour='*/5', day_of_week='0,6'),
    ]
    starts = {
        'UTC': ['2026-01-01T00:00:00', '2026-02-28T23:59:30', '2026-12-31T23:59:59', '2027-02-28T12:34:56'],
        'Europe/Warsaw': ['2026-03-28T23:30:00', '2026-03-29T01:59:00', '2026-10-24T23:30:00', '2026-10-25T02:30:00'],
        'America/New_York': ['2026-03-08T01:15:00', '2026-11-01T00:59:00'],
    }
    for tzname, when in starts.items():
        a = Celery('tz', set_as_current=False)
        a.conf.timezone = tzname
        tz = ZoneInfo(tzname)
        for spec, s in itertools.product(specs, when):
            last = datetime.fromisoformat(s).replace(tzinfo=tz)
            runs, cur = [], last
            try:
                for _ in range(4):
                    # take "now" = last run, so remaining == distance to the next run
                    c = crontab(**spec, app=a, nowfun=lambda cur=cur: cur)
                    rem = c.remaining_estimate(cur)
                    nxt = (cur.astimezone(timezone.utc) + rem).astimezone(tz)
                    runs.append([nxt.isoformat(), rem.total_seconds()])
                    cur = nxt
                err = None
            except Exception as exc:
                err = repr(exc)
            cases.append({'timezone': tzname, 'crontab': spec, 'last_run_at': last.isoformat(),
                          'next_runs': runs, 'error': err})
    parse = []
    for mx, mn, text in [(60, 0, '*/15'), (60, 0, '1,13,30-45,50-59/2'), (24, 0, '0,8-17/2'), (7, 0, 'mon-fri'),
                         (7, 0, 'sun'), (7, 0, 'Sunday'), (7, 0, '6-1'), (12, 1, '*/3'), (12, 1, '2-12/2'),
                         (12, 1, 'jan-mar'), (31, 1, '1-7,15-21'), (60, 0, '59-2'), (24, 0, '*/25'), (60, 0, '60'),
                         (7, 0, '7'), (60, 0, ''), (60, 0, '1,,2'), (60, 0, '*/0'), (60, 0, '5/10'), (60, 0, '-5'),
                         (60, 0, '* '), (7, 0, 'foo'), (60, 0, '1-10/'), (60, 0, '*/'), (12, 1, '0'), (60, 0, '01'),
                         (7, 0, 'monday-3'), (60, 0, '*5'), (60, 0, '10-20-30'), (60, 0, 'jan')]:
        from celery.schedules import crontab_parser
        try:
            parse.append([mx, mn, text, sorted(crontab_parser(mx, mn).parse(text)), None])
        except Exception as exc:
            parse.append([mx, mn, text, None, '%s: %s' % (type(exc).__name__, exc)])
    due = []
    a = Celery('due', set_as_current=False)
    now = datetime(2026, 1, 1, 12, 0, 30, tzinfo=timezone.utc)
    for secs, ago, rel in [(10, 3, False), (10, 10, False), (10, 25, False), (60, 45, True), (3600, 10, True),
                           (0.5, 0.2, False), (86400, 100, True)]:
        e = every(timedelta(seconds=secs), relative=rel, app=a, nowfun=lambda: now)
        s = e.is_due(now - timedelta(seconds=ago))
        due.append({'every': secs, 'relative': rel, 'last_run_seconds_ago': ago, 'now': now.isoformat(),
                    'is_due': s.is_due, 'next': s.next})
    for spec, last in [(dict(minute='*/5'), '2026-01-01T11:55:00'), (dict(minute='*/5'), '2026-01-01T12:00:00'),
                       (dict(minute='0'), '2026-01-01T10:00:00'), (dict(minute='*'), '2026-01-01T12:00:29')]:
        c = crontab(**spec, app=a, nowfun=lambda: now)
        s = c.is_due(datetime.fromisoformat(last).replace(tzinfo=timezone.utc))
        due.append({'crontab': spec, 'last_run_at': last, 'now': now.isoformat(), 'is_due': s.is_due, 'next': s.next})
    write('beat', 'crontab_parser.json', {'note': '[max, min, text, expansion or null, error or null]', 'cases': parse})
    write('beat', 'crontab_next.json', {'note': 'four successive runs, each computed with now == last_run_at', 'cases': cases})
    write('beat', 'is_due.json', {'note': 'schedule.is_due(last_run_at)', 'cases': due})
    # the message that beat sends
    from celery.beat import ScheduleEntry, Scheduler
    r = rds()
    r.flushall()
    make_deterministic()
    app.conf.beat_schedule = {}
    s = Scheduler(app=app, lazy=True)
    entry = ScheduleEntry(name='every-10', task='vec.add', schedule=10.0, args=(1, 2), kwargs={},
                          options={'queue': 'periodic', 'expires': 20, 'priority': 3}, app=app)
    s.schedule = {'every-10': entry}
    reset_ids()
    s.apply_async(entry, producer=None, advance=False)
    write('beat', 'sent_message.json', {'note': 'entry with options queue/expires/priority, via Scheduler.apply_async',
          'messages': [dict({'redis_key': k, 'raw': v}, **explain(v)) for k, v in read_back()]})
    # redbeat
    r.flushall()
    app.conf.redbeat_redis_url = ROOT + '/0'
    from redbeat import RedBeatSchedulerEntry
    from redbeat.schedules import rrule
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
    mon = Monitor()
    es = [
        RedBeatSchedulerEntry('every-10s', 'vec.add', every(10.0, app=app), args=[1, 2], kwargs={'a': 'b'},
                              options={'queue': 'q'}, app=app),
        RedBeatSchedulerEntry('nightly', 'vec.noop', crontab(minute='*/5', hour='0-6', day_of_week='mon-fri', app=app), app=app),
        RedBeatSchedulerEntry('rr', 'vec.noop', rrule('DAILY', dtstart=now, count=3, byhour=[9], app=app), app=app),
        RedBeatSchedulerEntry('off', 'vec.noop', every(60.0, app=app), enabled=False, app=app),
    ]
    for e in es:
        e.last_run_at = now if e.name == 'every-10s' else None
        e.save()
    next(es[0])
    rows = mon.stop()
    dump = {}
    for k in sorted(r.keys('redbeat*')):
        t = r.type(k).decode()
        dump[k.decode()] = {'type': t, 'value': {a.decode(): b.decode() for a, b in r.hgetall(k).items()} if t == 'hash'
                            else [[a.decode(), b] for a, b in r.zrange(k, 0, -1, withscores=True)] if t == 'zset' else t}
    write('beat', 'redbeat_keys.json', {'note': 'redbeat 2.4.2: entries saved, then one run of every-10s; clock frozen',
                                        'keys': dump})
    write('monitor', 'redbeat_save_and_run.txt', transcript(rows))
    r.flushall()


# --------------------------------------------------------------------------
# amqp: what would be declared on RabbitMQ, recorded without a server

def do_amqp():
    from kombu import Exchange, Queue
    from kombu.transport import native_delayed_delivery as ndd
    from kombu.transport.base import to_rabbitmq_queue_arguments
    from kombu.transport.pyamqp import Channel as AmqpChannel

    class Recorder:
        def __init__(self):
            self.calls = []

        def __getattr__(self, name):
            def call(*args, **kwargs):
                self.calls.append([name, dict(kwargs, **({'args': list(args)} if args else {}))])
            return call

        def prepare_queue_arguments(self, arguments, **kw):
            return to_rabbitmq_queue_arguments(arguments or {}, **kw)

        class connection:
            class client:
                declared_entities = set()

    class Conn:
        def __init__(self):
            self.chan = Recorder()

        def channel(self):
            return self.chan

    def rec(*entities):
        out = []
        for e in entities:
            r = Recorder()
            e.bind(r).declare()
            out += r.calls
        return out

    make_deterministic()
    a = Celery('a', broker='pyamqp://', backend='rpc://', set_as_current=False)
    q = Celery('q', broker='pyamqp://', set_as_current=False)
    q.conf.task_default_queue_type = 'quorum'
    q.conf.task_default_exchange_type = 'topic'
    p = Celery('p', broker='pyamqp://', set_as_current=False)
    p.conf.task_queue_max_priority = 10
    mb = a.control.mailbox
    out = {
        'default_queue': rec(*a.amqp.queues.consume_from.values()),
        'missing_queue_-Q_video': rec(a.amqp.queues['video']),
        'quorum_topic_default_queue': rec(*q.amqp.queues.consume_from.values()),
        'queue_max_priority_10': rec(*p.amqp.queues.consume_from.values()),
        'pidbox_node_queue': rec(mb.get_queue('w1@vectors.example')),
        'pidbox_reply_queue': rec(mb.get_reply_queue()),
        'event_receiver_queue': rec(Queue(
            'celeryev.ID', exchange=Exchange('celeryev', type='topic'), routing_key='#', auto_delete=True,
            durable=False, exclusive=True, message_ttl=a.conf.event_queue_ttl, expires=a.conf.event_queue_expires)),
        'rpc_reply_queue': rec(a.backend.binding),
    }
    c = Conn()
    ndd.declare_native_delayed_delivery_exchanges_and_queues(c, 'quorum')
    out['native_delayed_delivery_quorum'] = c.chan.calls
    c = Conn()
    ndd.bind_queue_to_native_delayed_delivery_exchange(
        c, Queue('celery', Exchange('celery', type='topic'), routing_key='celery'))
    out['native_delayed_delivery_bind_queue_celery'] = c.chan.calls
    out['delayed_routing_keys'] = {str(n): ndd.calculate_routing_key(n, 'celery') for n in (1, 10, 3600, 86400)}
    ch = object.__new__(AmqpChannel)
    msg = ch.prepare_message('[[1, 2], {}, {}]', priority=5, content_type='application/json', content_encoding='utf-8',
                             headers={'task': 'vec.add', 'id': 'x', 'timelimit': [None, 3], 'retries': 0},
                             properties={'delivery_mode': 2, 'correlation_id': 'x', 'reply_to': 'r', 'expiration': '30000'})
    out['message_properties'] = msg.properties
    out['message_properties_wire_hex'] = msg._serialize_properties().hex()
    write('amqp', 'declarations.json', {
        'note': 'method calls that py-amqp would send, recorded with a fake channel; no RabbitMQ was used', 'calls': out})


def main():
    global ROOT, OUT
    ap = argparse.ArgumentParser()
    ap.add_argument('--redis', default=ROOT)
    ap.add_argument('--out', default=OUT)
    ap.add_argument('--only', default='messages,results,events,control,monitor,beat,amqp')
    o = ap.parse_args()
    ROOT, OUT = o.redis, os.path.abspath(o.out)
    os.environ['VEC_REDIS'] = ROOT
    sys.modules.setdefault('capture', sys.modules['__main__'])
    app.conf.broker_url = ROOT + '/0'
    app.conf.result_backend = ROOT + '/0'
    wanted = o.only.split(',')
    for step in ('results', 'events', 'control', 'monitor', 'messages', 'beat', 'amqp'):
        if step not in wanted:
            continue
        if step == 'messages':
            make_deterministic()
        print('==', step, flush=True)
        globals()['do_' + step]()
    log = os.path.join(HERE, '.worker.log')
    if os.path.exists(log):
        os.replace(log, os.environ.get('VEC_LOG', os.devnull + '.log') if 'VEC_LOG' in os.environ else log + '.old')
        if os.path.exists(log + '.old'):
            os.remove(log + '.old')


if __name__ == '__main__':
    main()
