"""Capture what celery really says to a RabbitMQ node, frame by frame.

Usage (a private throwaway node; python = celery==5.7.0):

    python capture_amqp.py --node 127.0.0.1:35672 --ctl 'rabbitmqctl' --out rabbitmq-3.10 [--only a,b]

`--ctl` is the command that talks to the node (words are split on spaces). Every scenario gets its own virtual host.
A decoding proxy stands between celery and the node: one listener per role, so each frame carries its role
("worker", "client", ...) and the number of the connection. The same file is the Celery application module.
"""
import argparse
import base64
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(os.path.dirname(HERE), 'vectors', 'amqp')

# --------------------------------------------------------------------------
# AMQP 0-9-1 decoding. Argument letters: s short string, S long string, o octet, h short, l long, L long long,
# b bit, t table.
SPEC = {
    (10, 10): ('connection.start', 'version_major:o version_minor:o server_properties:t mechanisms:S locales:S'),
    (10, 11): ('connection.start-ok', 'client_properties:t mechanism:s response:S locale:s'),
    (10, 20): ('connection.secure', 'challenge:S'), (10, 21): ('connection.secure-ok', 'response:S'),
    (10, 30): ('connection.tune', 'channel_max:h frame_max:l heartbeat:h'),
    (10, 31): ('connection.tune-ok', 'channel_max:h frame_max:l heartbeat:h'),
    (10, 40): ('connection.open', 'virtual_host:s reserved1:s reserved2:b'), (10, 41): ('connection.open-ok', 'reserved1:s'),
    (10, 50): ('connection.close', 'reply_code:h reply_text:s class_id:h method_id:h'), (10, 51): ('connection.close-ok', ''),
    (10, 60): ('connection.blocked', 'reason:s'), (10, 61): ('connection.unblocked', ''),
    (20, 10): ('channel.open', 'reserved1:s'), (20, 11): ('channel.open-ok', 'reserved1:S'),
    (20, 20): ('channel.flow', 'active:b'), (20, 21): ('channel.flow-ok', 'active:b'),
    (20, 40): ('channel.close', 'reply_code:h reply_text:s class_id:h method_id:h'), (20, 41): ('channel.close-ok', ''),
    (40, 10): ('exchange.declare', '-:h exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:t'),
    (40, 11): ('exchange.declare-ok', ''), (40, 20): ('exchange.delete', '-:h exchange:s if_unused:b nowait:b'),
    (40, 21): ('exchange.delete-ok', ''),
    (40, 30): ('exchange.bind', '-:h destination:s source:s routing_key:s nowait:b arguments:t'), (40, 31): ('exchange.bind-ok', ''),
    (40, 40): ('exchange.unbind', '-:h destination:s source:s routing_key:s nowait:b arguments:t'), (40, 51): ('exchange.unbind-ok', ''),
    (50, 10): ('queue.declare', '-:h queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:t'),
    (50, 11): ('queue.declare-ok', 'queue:s message_count:l consumer_count:l'),
    (50, 20): ('queue.bind', '-:h queue:s exchange:s routing_key:s nowait:b arguments:t'), (50, 21): ('queue.bind-ok', ''),
    (50, 50): ('queue.unbind', '-:h queue:s exchange:s routing_key:s arguments:t'), (50, 51): ('queue.unbind-ok', ''),
    (50, 30): ('queue.purge', '-:h queue:s nowait:b'), (50, 31): ('queue.purge-ok', 'message_count:l'),
    (50, 40): ('queue.delete', '-:h queue:s if_unused:b if_empty:b nowait:b'), (50, 41): ('queue.delete-ok', 'message_count:l'),
    (60, 10): ('basic.qos', 'prefetch_size:l prefetch_count:h global:b'), (60, 11): ('basic.qos-ok', ''),
    (60, 20): ('basic.consume', '-:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:t'),
    (60, 21): ('basic.consume-ok', 'consumer_tag:s'), (60, 30): ('basic.cancel', 'consumer_tag:s nowait:b'),
    (60, 31): ('basic.cancel-ok', 'consumer_tag:s'),
    (60, 40): ('basic.publish', '-:h exchange:s routing_key:s mandatory:b immediate:b'),
    (60, 50): ('basic.return', 'reply_code:h reply_text:s exchange:s routing_key:s'),
    (60, 60): ('basic.deliver', 'consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s'),
    (60, 70): ('basic.get', '-:h queue:s no_ack:b'),
    (60, 71): ('basic.get-ok', 'delivery_tag:L redelivered:b exchange:s routing_key:s message_count:l'),
    (60, 72): ('basic.get-empty', 'reserved1:s'), (60, 80): ('basic.ack', 'delivery_tag:L multiple:b'),
    (60, 90): ('basic.reject', 'delivery_tag:L requeue:b'), (60, 100): ('basic.recover-async', 'requeue:b'),
    (60, 110): ('basic.recover', 'requeue:b'), (60, 111): ('basic.recover-ok', ''),
    (60, 120): ('basic.nack', 'delivery_tag:L multiple:b requeue:b'),
    (85, 10): ('confirm.select', 'nowait:b'), (85, 11): ('confirm.select-ok', ''),
}
WITH_CONTENT = {'basic.publish', 'basic.deliver', 'basic.return', 'basic.get-ok'}
PROPS = [('content_type', 's'), ('content_encoding', 's'), ('headers', 't'), ('delivery_mode', 'o'), ('priority', 'o'),
         ('correlation_id', 's'), ('reply_to', 's'), ('expiration', 's'), ('message_id', 's'), ('timestamp', 'T'),
         ('type', 's'), ('user_id', 's'), ('app_id', 's'), ('cluster_id', 's')]
FIXED = {'b': '>b', 'B': '>B', 's': '>h', 'u': '>H', 'I': '>i', 'i': '>I', 'l': '>q', 'L': '>q', 'f': '>f', 'd': '>d', 'T': '>Q'}


def text(raw):
    try:
        return raw.decode('utf-8')
    except UnicodeDecodeError:
        return {'base64': base64.b64encode(raw).decode()}


class Reader:
    def __init__(self, data):
        self.d, self.p = data, 0

    def take(self, n):
        out = self.d[self.p:self.p + n]
        if len(out) < n:
            raise ValueError('frame too short')
        self.p += n
        return out

    def num(self, fmt):
        return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]

    def short(self):
        return text(self.take(self.num('>B')))

    def long(self):
        return text(self.take(self.num('>I')))

    def value(self):
        """[type letter, value]"""
        t = chr(self.num('>B'))
        if t in FIXED:
            return [t, self.num(FIXED[t])]
        if t == 't':
            return [t, bool(self.num('>B'))]
        if t == 'V':
            return [t, None]
        if t in 'Sx':
            raw = self.take(self.num('>I'))
            return [t, text(raw)]
        if t == 'D':
            scale = self.num('>B')
            return [t, {'scale': scale, 'value': self.num('>i')}]
        if t == 'A':
            r = Reader(self.take(self.num('>I')))
            out = []
            while r.p < len(r.d):
                out.append(r.value())
            return [t, out]
        if t == 'F':
            return [t, self.table()]
        raise ValueError('field type %r' % t)

    def table(self):
        r = Reader(self.take(self.num('>I')))
        out = {}
        while r.p < len(r.d):
            k = r.short()
            out[k] = r.value()
        return out

    def args(self, spec):
        out, bit, bits = {}, 8, 0
        for item in spec.split():
            name, t = item.split(':')
            if t == 'b':
                if bit > 7:
                    bits, bit = self.num('>B'), 0
                v, bit = bool(bits >> bit & 1), bit + 1
            else:
                bit = 8
                v = {'s': self.short, 'S': self.long, 't': self.table, 'o': lambda: self.num('>B'),
                     'h': lambda: self.num('>H'), 'l': lambda: self.num('>I'), 'L': lambda: self.num('>Q')}[t]()
            if name != '-':
                out[name] = v
        return out

    def props(self):
        flags = self.num('>H')
        out = {}
        for i, (name, t) in enumerate(PROPS):
            if flags & (1 << (15 - i)):
                out[name] = (self.short() if t == 's' else self.table() if t == 't'
                             else self.num('>B') if t == 'o' else self.num('>Q'))
        return out


class Log:
    def __init__(self):
        self.lock, self.rows, self.t0, self.n = threading.Lock(), [], time.time(), {}

    def add(self, **row):
        with self.lock:
            self.rows.append(dict({'t': round(time.time() - self.t0, 3)}, **row))
            return self.rows[-1]

    def note(self, what):
        self.add(note=what)

    def conn(self, role):
        with self.lock:
            self.n[role] = self.n.get(role, 0) + 1
            return '%s#%d' % (role, self.n[role])

    def find(self, method, role=None, after=0):
        with self.lock:
            return [r for r in self.rows[after:] if r.get('m') == method and (role is None or r['conn'].startswith(role))]

    def wait(self, method, role=None, n=1, timeout=20, after=0):
        end = time.time() + timeout
        while time.time() < end:
            got = self.find(method, role, after)
            if len(got) >= n:
                return got
            time.sleep(0.05)
        self.note('TIMEOUT waiting for %s' % method)
        return self.find(method, role, after)


class Proxy:
    """One listener per role."""

    def __init__(self, upstream, log, role):
        self.up, self.log, self.role = upstream, log, role
        self.srv = socket.socket()
        self.srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.srv.bind(('127.0.0.1', 0))
        self.srv.listen(64)
        self.port = self.srv.getsockname()[1]
        self.socks = []
        self.frozen = False
        self.keep_hex = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.srv.accept()
            except OSError:
                return
            name = self.log.conn(self.role)
            try:
                u = socket.create_connection(self.up, 5)
            except OSError:
                self.log.add(conn=name, d='-', m='(server does not accept connections)')
                c.close()
                continue
            u.settimeout(None)
            self.socks += [c, u]
            threading.Thread(target=self.pump, args=(c, u, name, '>'), daemon=True).start()
            threading.Thread(target=self.pump, args=(u, c, name, '<'), daemon=True).start()

    def pump(self, src, dst, name, d):
        buf, pending, first = b'', {}, d == '>'
        while True:
            try:
                data = src.recv(65536)
            except OSError:
                data = b''
            if not data:
                break
            while self.frozen:
                time.sleep(0.05)
            buf += data
            try:
                if first and len(buf) >= 8:
                    self.log.add(conn=name, d=d, m='protocol-header', hex=buf[:8].hex())
                    buf, first = buf[8:], False
                while len(buf) >= 7:
                    ftype, ch, size = struct.unpack('>BHI', buf[:7])
                    if len(buf) < size + 8:
                        break
                    self.frame(name, d, ftype, ch, buf[7:7 + size], pending)
                    buf = buf[size + 8:]
            except Exception as exc:  # keep pumping whatever happens
                self.log.add(conn=name, d=d, m='(decode error)', error=repr(exc))
                buf = b''
            try:
                dst.sendall(data)
            except OSError:
                break
        self.log.add(conn=name, d=d, m='(closed)')
        for s in (src, dst):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def frame(self, name, d, ftype, ch, payload, pending):
        if ftype == 8:
            self.log.add(conn=name, d=d, m='heartbeat')
        elif ftype == 1:
            r = Reader(payload)
            mname, spec = SPEC[(r.num('>H'), r.num('>H'))]
            args = r.args(spec)
            if mname == 'connection.start-ok':
                args['response'] = '(credentials)'
            row = dict(conn=name, d=d, ch=ch, m=mname, a=args)
            if mname in WITH_CONTENT:
                pending[ch] = [row, None, b'']
            else:
                self.log.add(**row)
        elif ftype == 2:
            r = Reader(payload)
            r.take(4)
            p = pending[ch]
            p[1] = r.num('>Q')
            p[0]['props'] = r.props()
            if self.keep_hex:
                p[0]['header_frame_hex'] = payload.hex()
            p[0]['body_size'] = p[1]
            if p[1] == 0:
                self.done(pending, ch)
        elif ftype == 3:
            p = pending[ch]
            p[2] += payload
            if len(p[2]) >= p[1]:
                self.done(pending, ch)

    def done(self, pending, ch):
        row, _, body = pending.pop(ch)
        row['body'] = text(body)
        self.log.add(**row)

    def close(self):
        self.srv.close()
        for s in self.socks:
            try:
                s.close()
            except OSError:
                pass


# --------------------------------------------------------------------------
# the application
from celery import Celery, chain, group  # noqa: E402
from celery.exceptions import Ignore, Reject  # noqa: E402
from kombu import Exchange, Queue  # noqa: E402

CONF = json.loads(os.environ.get('CAP_CONF', '{}'))


def make_app(url, **conf):
    app = Celery('cap', broker=url, set_as_current=False)
    app.conf.update(dict(dict(
        broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, worker_proc_alive_timeout=30,
        worker_enable_remote_control=True, accept_content=['json', 'msgpack', 'yaml', 'pickle']), **fix(conf)))
    define(app)
    return app


def fix(conf):
    conf = dict(conf)
    if conf.get('task_queues'):
        conf['task_queues'] = [
            Queue(q['name'], Exchange(q.get('exchange', q['name']), type=q.get('type', 'direct')),
                  routing_key=q.get('routing_key', q['name']), queue_arguments=q.get('arguments'),
                  **({'max_priority': q['max_priority']} if 'max_priority' in q else {}))
            for q in conf['task_queues']]
    return conf


def define(app):
    @app.task(shared=False, name='cap.add')
    def add(x, y):
        return x + y

    @app.task(shared=False, name='cap.echo')
    def echo(*args, **kwargs):
        return {'args': list(args), 'kwargs': kwargs}

    @app.task(shared=False, name='cap.sleep')
    def sleep(s):
        time.sleep(s)

    @app.task(shared=False, name='cap.late', acks_late=True)
    def late(s=0):
        time.sleep(s)

    @app.task(shared=False, name='cap.late_fail', acks_late=True, acks_on_failure_or_timeout=False)
    def late_fail():
        raise ValueError('late')

    @app.task(shared=False, name='cap.fail')
    def fail():
        raise ValueError('boom')

    @app.task(shared=False, name='cap.retry', bind=True, max_retries=1)
    def retry(self, delay=0.5):
        raise self.retry(countdown=delay)

    @app.task(shared=False, name='cap.reject', acks_late=True)
    def reject():
        raise Reject('no', requeue=False)

    @app.task(shared=False, name='cap.requeue', bind=True, acks_late=True)
    def requeue(self):
        if self.request.delivery_info.get('redelivered'):
            return 'second time'
        raise Reject('again', requeue=True)

    @app.task(shared=False, name='cap.info', bind=True)
    def info(self):
        r = self.request
        print('INFO %s' % json.dumps({'delivery_info': r.delivery_info, 'reply_to': r.reply_to, 'eta': r.eta,
                                      'correlation_id': r.correlation_id, 'expires': r.expires}, default=str), flush=True)
    return app


if os.environ.get('CAP_URL'):
    app = make_app(os.environ['CAP_URL'], **CONF)


# --------------------------------------------------------------------------
# driver
class Env:
    def __init__(self, o):
        self.o = o
        host, port = o.node.rsplit(':', 1)
        self.up = (host, int(port))
        self.ctl_cmd = shlex.split(o.ctl)
        self.n = 0
        self.procs = []

    def ctl(self, *args, check=True):
        p = subprocess.run(self.ctl_cmd + ['-q'] + list(args), capture_output=True, text=True)
        if check and p.returncode:
            raise RuntimeError('%s: %s%s' % (args, p.stdout, p.stderr))
        return p.stdout.strip() or p.stderr.strip()

    def begin(self, name):
        self.name, self.log, self.prox, self.logs, self.extra = name, Log(), {}, {}, {}
        self.vhost = 'v-' + name
        self.ctl('delete_vhost', self.vhost, check=False)
        self.ctl('add_vhost', self.vhost)
        self.ctl('set_permissions', '-p', self.vhost, 'guest', '.*', '.*', '.*')
        self.log.t0 = time.time()

    def url(self, role, **q):
        if role not in self.prox:
            self.prox[role] = Proxy(self.up, self.log, role)
        return 'pyamqp://guest:guest@127.0.0.1:%d/%s' % (self.prox[role].port, self.vhost)

    def client(self, role='client', **conf):
        return make_app(self.url(role), **conf)

    def worker(self, *args, role='worker', node='w1@host.example', conc=1, conf=None, wait=True, env=None):
        e = dict(os.environ, CAP_URL=self.url(role), CAP_CONF=json.dumps(conf or {}), C_FORCE_ROOT='1',
                 PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE='1', **(env or {}))
        path = os.path.join(self.o.tmp, '%s-%s.log' % (self.name, role))
        self.logs[role] = path
        n = len(self.log.find('basic.consume-ok', role))
        p = subprocess.Popen([sys.executable, '-m', 'celery', '-A', 'capture_amqp', 'worker', '-n', node, '-c', str(conc),
                              '-l', 'DEBUG' if self.o.debug else 'INFO'] + list(args),
                             env=e, cwd=self.o.tmp, stdout=open(path, 'ab'), stderr=subprocess.STDOUT)
        self.procs.append(p)
        if wait:
            self.ready(path)
        return p

    def ready(self, path, n=1, timeout=30):
        end = time.time() + timeout
        while time.time() < end:
            if open(path, errors='replace').read().count(' ready.') >= n:
                time.sleep(0.4)
                return True
            time.sleep(0.1)
        self.log.note('worker not ready')
        return False

    def stop(self, p, sig=signal.SIGTERM, timeout=20):
        if p.poll() is None:
            p.send_signal(sig)
            try:
                p.wait(timeout)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        return p.returncode

    def worker_log(self, role='worker', grep=None):
        out = []
        for line in open(self.logs[role], errors='replace'):
            if grep is None or re.search(grep, line):
                out.append(re.sub(r'^\[\S+ \S+: ', '[', line.rstrip()))
        return out

    def state(self, *what):
        """rabbitmqctl view of the vhost"""
        out = {}
        for w in what or ('queues', 'exchanges', 'bindings'):
            cols = {'queues': ['name', 'type', 'durable', 'auto_delete', 'exclusive', 'arguments', 'policy', 'messages_ready',
                               'messages_unacknowledged', 'consumers'],
                    'exchanges': ['name', 'type', 'durable', 'auto_delete', 'internal', 'arguments'],
                    'bindings': ['source_name', 'destination_name', 'destination_kind', 'routing_key', 'arguments'],
                    'consumers': ['queue_name', 'consumer_tag', 'ack_required', 'prefetch_count', 'active', 'arguments'],
                    'channels': ['number', 'prefetch_count', 'messages_unacknowledged', 'confirm', 'consumer_count'],
                    }[w]
            args = ['--formatter', 'json', 'list_' + w] + ([] if w == 'channels' else ['-p', self.vhost]) + cols
            txt = self.ctl(*args)
            rows = json.loads(txt or '[]')
            if w == 'exchanges':
                rows = [r for r in rows if r['name'] and not r['name'].startswith('amq.')]
            out[w] = rows
        return out

    def end(self, note, keep=None, drop_handshake=True):
        for p in self.procs:
            self.stop(p)
        self.procs = []
        time.sleep(0.3)
        for p in self.prox.values():
            p.close()
        rows = list(self.log.rows)
        if drop_handshake:
            rows = [r for r in rows if not str(r.get('m', '')).startswith(('connection.start', 'connection.tune', 'connection.open',
                                                                         'protocol-header'))]
        if keep:
            rows = [r for r in rows if keep(r)]
        save(self.o.out, self.name + '.json', dict({'note': note, 'server': 'RabbitMQ ' + self.o.version}, **self.extra), rows)
        self.ctl('delete_vhost', self.vhost, check=False)
        print(self.name, len(rows), flush=True)


def scrub(t):
    host = socket.gethostname()
    for a, b in ((HERE + '/', ''), (sys.prefix, 'venv'), (sys.base_prefix, 'python-prefix'),
                 (os.path.dirname(os.path.dirname(os.path.dirname(os.__file__))), 'python-prefix'), ('@' + host, '@host.example'),
                 (os.environ.get('CAP_SCRUB', '\0'), 'TMP')):
        t = t.replace(a, b)
    return t


def save(out, name, head, rows):
    os.makedirs(os.path.join(OUT, out), exist_ok=True)
    parts = [json.dumps(head, indent=1, ensure_ascii=False)[:-2]]
    lines = ',\n  '.join(json.dumps(r, ensure_ascii=False) for r in rows)
    with open(os.path.join(OUT, out, name), 'w') as fh:
        fh.write(scrub(parts[0] + ',\n "frames": [\n  ' + lines + '\n ]\n}\n'))


def quiet(rows=('heartbeat',)):
    return lambda r: r.get('m') not in rows


SCENARIOS = {}


def scenario(f):
    SCENARIOS[f.__name__] = f
    return f


def load_scenarios():
    with open(os.path.join(HERE, 'scenarios.py')) as fh:
        exec(compile(fh.read(), 'scenarios.py', 'exec'), globals())


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--node', default='127.0.0.1:35672')
    ap.add_argument('--ctl', default='rabbitmqctl')
    ap.add_argument('--out', default='rabbitmq')
    ap.add_argument('--tmp', default=tempfile.gettempdir())
    ap.add_argument('--restart', help='shell command that kills -9 and restarts the node, keeping its data')
    ap.add_argument('--debug', action='store_true')
    ap.add_argument('--only')
    o = ap.parse_args()
    env = Env(o)
    load_scenarios()
    o.version = re.search(r'RabbitMQ version: (\S+)', env.ctl('status')).group(1)
    for name, f in SCENARIOS.items():
        if o.only and name not in o.only.split(','):
            continue
        env.begin(name)
        try:
            f(env)
        except Exception as exc:
            print('FAILED', name, repr(exc), flush=True)
            for p in env.procs:
                env.stop(p)
            env.procs = []


if __name__ == '__main__':
    main()
