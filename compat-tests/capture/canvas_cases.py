"""Writes what real Celery does with many canvases: what applying them sends, and what each task's end sends.

    python canvas_cases.py CASES | gzip -9n > celeriac/tests/fixtures/canvas_cases.json.gz

Nothing leaves the process: publishing and the result backend are recorded. Canvases and outcomes come from a seeded
generator, so that the file is the same each time. Ids are counted; only their identity matters.
"""
import copy
import json
import random
import sys
from datetime import datetime, timezone
from unittest import mock

import celery.app.base
import celery.canvas
import kombu
import kombu.utils.uuid
from celery import Celery, chain, chord, group
from celery.app.trace import build_tracer
from celery.backends.base import BaseBackend, _create_chord_error_with_cause
from celery.canvas import StampingVisitor, maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult
from kombu.utils.json import dumps, loads

NEXT = [0]


def counted(*_args, **_kwargs):
    NEXT[0] += 1
    return '00000000-0000-4000-8000-%012d' % NEXT[0]


celery.canvas.uuid = celery.app.base.uuid = kombu.utils.uuid.uuid = counted
EVENTS = []
OUTCOME = [None]
CHORDS = {}


def plain(value):
    return json.loads(dumps(value))


class Recorder(BaseBackend):
    """Records what is stored, and counts the parts of chords as the Redis backend does."""

    def __init__(self, app, **kwargs):
        super().__init__(app, **kwargs)
        self.states = {}

    def _get_task_meta_for(self, task_id):
        return {'status': self.states.get(task_id, 'PENDING'), 'result': None}

    def store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        result = self.encode_result(result, state)
        if state == 'SUCCESS':
            children = self.current_task_children(request)
        else:
            children = []
        self.states[task_id] = state
        EVENTS.append(['store', task_id, state, plain(result), plain(children),
                       getattr(request, 'group', None), getattr(request, 'parent_id', None)])
        return result

    def set_chord_size(self, group_id, chord_size):
        EVENTS.append(['size', group_id, chord_size])
        CHORDS.setdefault(group_id, {'parts': {}, 'more': 0})['size'] = chord_size

    def add_to_chord(self, group_id, result):
        EVENTS.append(['grow', group_id])
        CHORDS.setdefault(group_id, {'parts': {}, 'more': 0})['more'] += 1

    def apply_chord(self, header_result_args, body, **kwargs):
        header_result = self.app.GroupResult(*header_result_args)
        if any(isinstance(nr, GroupResult) for nr in header_result.results):
            EVENTS.append(['save', plain(header_result.as_tuple())])

    def on_chord_part_return(self, request, state, result, propagate=None, **kwargs):
        tid, gid, index = request.id, request.group, request.group_index
        if not gid or not tid:
            return
        EVENTS.append(['part', gid, tid, index, state])
        parts = CHORDS.setdefault(gid, {'parts': {}, 'more': 0})
        if parts.get('done'):
            return
        parts['parts'].setdefault((tid, index), (state, result))
        if len(parts['parts']) != parts.get('size', 10 ** 6) + parts['more']:
            return
        parts['done'] = True
        callback = maybe_signature(request.chord, app=self.app)
        ordered = sorted(parts['parts'].items(), key=lambda item: (item[0][1] is None, item[0][1], item[0][0]))
        failed = [(key[0], value[1]) for key, value in ordered if value[0] != 'SUCCESS']
        if failed:
            tid, exc = failed[0]
            try:
                raise _create_chord_error_with_cause(f'Dependency {tid} raised {exc!r}', exc)
            except ChordError as error:
                self.chord_error_from_stack(callback, error)
        else:
            callback.delay([value[1] for _, value in ordered])


def append_to_list_option(self, key, value):
    """As Celery's, but a signature that was read from JSON equals one that was not (lists and tuples differ)."""
    items = self._with_list_option(key)
    if plain(value) not in plain(items):
        items.append(value)
    return value


celery.canvas.Signature.append_to_list_option = append_to_list_option
# A callback that is sent without a priority does not take away that of a chord's body.
celery.canvas._chord._body_options = staticmethod(
    lambda options: {k: v for k, v in options.items() if k != 'parent_id' and (k != 'priority' or v is not None)})
app = Celery('vec', broker='memory://', backend=None)
app.conf.task_ignore_result = False
app._local.backend = Recorder(app)
type(app).backend = property(lambda self: self._local.backend)
app.set_current()


@app.task(bind=True, name='vec.add')
def add(self, *args, **kwargs):
    kind, value = OUTCOME[0]
    if kind == 'fail':
        raise ValueError(value)
    if kind == 'replace':
        return self.replace(maybe_signature(value, app=app))
    if kind == 'grow':
        self.add_to_chord(maybe_signature(value, app=app))
        return 7
    return value


@app.task(name='vec.errback_old')
def errback_old(task_id):
    return None


@app.task(name='vec.errback_new')
def errback_new(request, exc, traceback):
    EVENTS.append(['errback', request.id, plain(app.backend.prepare_exception(exc))])


def publish(self, body, routing_key=None, exchange=None, headers=None, **properties):
    EVENTS.append(['publish', {
        'headers': dict(plain(headers), origin='gen4242@client.example'), 'body': plain(body), 'exchange': getattr(exchange, 'name', exchange) or '',
        'routing_key': routing_key, 'priority': properties.get('priority') or 0,
        'reply_to': properties.get('reply_to'), 'correlation_id': properties.get('correlation_id'),
    }])


class Stamper(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {'tenant': 'acme'}


class Maker:
    """Random canvases."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, share):
        return self.random.random() < share

    def task(self):
        r = self.random
        sig = add.si(r.randint(0, 9)) if self.chance(.2) else add.s(r.randint(0, 9))
        if self.chance(.1):
            sig.set(priority=r.randint(1, 9))
        if self.chance(.05):
            sig.set(countdown=10)
        if self.chance(.05):
            sig.set(queue='video')
        if self.chance(.15):
            sig.link(self.some(1) if self.chance(.3) else add.s(100))
        if self.chance(.15):
            sig.link_error(self.errback())
        return sig

    def errback(self):
        return self.random.choice([errback_old.s(), errback_new.s(), errback_old.si('x'),
                                   app.signature('other.errback')])

    def some(self, depth):
        kind = self.random.choice(['task', 'chain', 'group', 'chord']) if depth > 0 else 'task'
        if kind == 'task':
            return self.task()
        several = [self.some(depth - 1) for _ in range(self.random.randint(1, 3))]
        if kind == 'chain':
            if self.chance(.3):
                sig = several[0]
                for other in several[1:]:
                    sig |= other
                return sig
            return chain(*several)
        if kind == 'group':
            return group(several)
        return chord(several, self.some(depth - 1))

    def canvas(self):
        sig = self.some(3)
        name = type(sig).__name__
        if self.chance(.1) and name != 'group':
            sig.link_error(self.errback())
        if self.chance(.1) and name != 'group':
            sig.link(add.s(200))
        if self.chance(.15):
            sig.stamp(Stamper())
        return maybe_signature(loads(dumps(sig)), app=app)

    def options(self, sig):
        options = {}
        if self.chance(.1):
            options['priority'] = self.random.randint(1, 9)
        if self.chance(.1):
            options['countdown'] = 30
        if self.chance(.1):
            options['queue'] = 'slow'
        if self.chance(.1):
            options['headers'] = {'x-custom': 'v'}
        if self.chance(.1) and sig.subtask_type != 'group':
            options['link'] = plain(add.s(300))
        if self.chance(.1) and sig.subtask_type != 'group':
            options['link_error'] = plain(self.errback())
        return options

    def outcome(self, in_chord, depth):
        share = self.random.random()
        if share < .12:
            return ['fail', 'boom']
        if share < .2 and depth < 3:
            sig = self.some(2)
            return ['replace', plain(sig)]
        if share < .25 and in_chord:
            return ['grow', plain(add.s(50))]
        return ['return', self.random.randint(1000, 9999)]


def take():
    events = EVENTS[:]
    EVENTS.clear()
    return events


def run(message, outcome):
    headers = message['headers']
    args, kwargs, embed = message['body']
    request = dict(headers, properties={}, reply_to=message['reply_to'], hostname='w1@vectors.example',
                   correlation_id=message['correlation_id'], is_eager=False, args=args, kwargs=kwargs,
                   delivery_info={'exchange': message['exchange'], 'routing_key': message['routing_key'],
                                  'priority': message['priority'], 'redelivered': False}, **embed)
    OUTCOME[0] = outcome
    task = app.tasks[headers['task']]
    build_tracer(task.name, task, app=app)(headers['id'], args, kwargs, request)


def case(seed):
    NEXT[0] = 0
    CHORDS.clear()
    app.backend.states.clear()
    maker = Maker(seed)
    sig = maker.canvas()
    options = maker.options(sig)
    args = [1] if maker.chance(.2) and 'celery.chain' not in dumps(sig) else []
    written = plain(sig)
    result = sig.apply_async(args, **options)
    found = {'seed': seed, 'signature': written, 'args': args, 'options': options,
             'result': plain(result.as_tuple()) if result is not None else None, 'applied': take(), 'steps': []}
    queue = [e[1] for e in found['applied'] if e[0] == 'publish']
    while queue and len(found['steps']) < 25:
        message = queue.pop(0)
        if message['headers']['task'] != 'vec.add':
            continue
        outcome = maker.outcome(message['body'][2]['chord'] and message['headers']['group'],
                                message['headers']['replaced_task_nesting'])
        run(copy.deepcopy(message), copy.deepcopy(outcome))
        events = take()
        found['steps'].append({'message': message, 'outcome': outcome, 'events': events})
        queue += [e[1] for e in events if e[0] == 'publish']
    return found


def main():
    now = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    cases = []
    with mock.patch.object(kombu.messaging.Producer, 'publish', publish), \
            mock.patch.object(celery.app.base.Celery, 'now', lambda self: now), \
            mock.patch.object(type(app.control), 'revoke',
                              lambda self, ids, *a, **k: EVENTS.append(['revoke', plain(ids)])):
        for seed in range(int(sys.argv[1])):
            cases.append(case(seed))
    json.dump({'note': 'made by capture/canvas_cases.py with celery ' + celery.__version__,
               'reply_to': app.thread_oid, 'cases': cases}, sys.stdout)


main()
