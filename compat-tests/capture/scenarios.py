# Scenarios of capture_amqp.py (executed inside it).


@scenario
def handshake(env):
    c = env.client()
    with c.connection_for_write() as conn:
        conn.ensure_connection(max_retries=1)
        conn.default_channel
    env.end('connect, one channel, close; default settings', drop_handshake=False)


@scenario
def client_publish(env):
    import warnings
    from datetime import datetime, timedelta, timezone
    from decimal import Decimal
    warnings.simplefilter('ignore')
    import celery.app.amqp as amqp_mod
    old_name, amqp_mod.anon_nodename = amqp_mod.anon_nodename, lambda: 'gen4242@client.example'
    c = env.client()
    env.prox['client'].keep_hex = True
    say = env.log.note
    titles = {}

    def pub(title, args=(1, 2), app=c, pause=0, **kw):
        tid = re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')
        titles[tid] = title
        say(title)
        try:
            app.tasks['cap.add'].apply_async(args, task_id=tid, **kw)
        except Exception as exc:
            say('%s raised %r' % (title, exc))
        time.sleep(0.06 + pause)
    say('send_task of a name that is not registered here')
    c.send_task('cap.unknown', (1, 2), task_id='send-task')
    titles['send-task'] = 'send_task of a name that is not registered here'
    pub('default')
    pub('priority 5', priority=5)
    pub('expires 30', expires=30)
    pub('expires 1.2345 seconds', expires=1.2345)
    pub('expires in the past', expires=datetime.now(timezone.utc) - timedelta(seconds=5))
    pub('countdown 10', countdown=10)
    pub('time limits 9 and 2.5', time_limit=9, soft_time_limit=2.5)
    pub('transient', delivery_mode=1)
    pub('custom headers of many types', headers={
        'h_text': 'żółw', 'h_true': True, 'h_int': 7, 'h_neg': -7, 'h_i31': 2**31, 'h_min32': -2**31, 'h_i40': 2**40, 'h_float': 1.5,
        'h_null': None, 'h_list': [1, 'a', None, [2]], 'h_obj': {'a': {'b': 1}}, 'h_dt': datetime(2026, 1, 2, 3, 4, 5, 678901),
        'h_dec': Decimal('10.50'), 'h_bytes': b'\xff\x00', 'h_tuple': (1, 2), 'h_i63': 2**63 - 1, 'h_empty': ''})
    pub('header integer 2 to the 63', headers={'h': 2**63}, retry=False)
    say('stamps')
    sig = c.tasks['cap.add'].s(1, 2).set(task_id='stamped')
    sig.stamp(tenant='acme', trace=['a', 'b'])
    sig.apply_async()
    titles['stamped'] = 'two stamps'
    pub('explicit queue video', queue='video')
    pub('unroutable', exchange='celery', routing_key='nobody')
    pub('mandatory unroutable', exchange='celery', routing_key='nobody', mandatory=True, pause=0.2)
    pub('first publish after the return')
    pub('second publish after the return')
    pub('exchange that does not exist', exchange='missing-exchange', routing_key='nobody', pause=0.4)
    pub('first publish after the missing exchange')
    pub('second publish after the missing exchange')
    say('group of two')
    group(c.tasks['cap.add'].s(1, 1).set(task_id='group-0'), c.tasks['cap.add'].s(2, 2).set(task_id='group-1')).apply_async()
    say('chain of two')
    chain(c.tasks['cap.add'].s(1, 1).set(task_id='chain-0'), c.tasks['cap.add'].s(2).set(task_id='chain-1')).apply_async()
    titles.update({'group-0': 'group, first', 'group-1': 'group, second', 'chain-0': 'chain of two'})
    for ser in ('msgpack', 'pickle', 'yaml'):
        pub('serializer ' + ser, serializer=ser)
    pub('compression gzip', compression='gzip')
    pub('non-ASCII arguments', ('zażółć', '\U0001f40d'))
    say('task_protocol 1')
    c2 = env.client('client1', task_protocol=1)
    env.prox['client1'].keep_hex = True
    pub('protocol 1', app=c2, expires=30)
    say('task_send_sent_event')
    c3 = env.client('client2', task_send_sent_event=True)
    c3.tasks['cap.add'].apply_async((1, 2))
    time.sleep(0.5)
    amqp_mod.anon_nodename = old_name
    golden = []
    for r in env.log.find('basic.publish', 'client'):
        tid = r['props'].get('correlation_id')
        if tid in titles:
            golden.append({'what': titles[tid], 'exchange': r['a']['exchange'], 'routing_key': r['a']['routing_key'],
                           'mandatory': r['a']['mandatory'], 'properties': r['props'], 'body': r['body'],
                           'header_frame_hex': r.get('header_frame_hex')})
    with open(os.path.join(OUT, 'task_messages.json'), 'w') as fh:
        fh.write(scrub('{\n "note": "what a client publishes; header values are [field type, value]; header_frame_hex is the payload of the '
                       'content header frame",\n "messages": [\n  '
                       + ',\n  '.join(json.dumps({k: v for k, v in g.items()}, ensure_ascii=False) for g in golden) + '\n ]\n}\n'))
    for r in env.log.rows:
        r.pop('header_frame_hex', None)
    env.extra['state'] = env.state()
    env.end('client side only; the queue is declared by the first publish of each connection')


@scenario
def client_confirm(env):
    c = env.client(broker_transport_options={'confirm_publish': True})
    env.log.note('broker_transport_options confirm_publish true')
    c.tasks['cap.add'].apply_async((1, 2))
    c.tasks['cap.add'].apply_async((3, 4))
    env.log.note('unroutable, confirm')
    try:
        c.tasks['cap.add'].apply_async((1, 2), exchange='celery', routing_key='nobody')
    except Exception as exc:
        env.log.note('raised %r' % exc)
    env.log.note('unroutable, confirm, mandatory')
    try:
        c.tasks['cap.add'].apply_async((1, 2), exchange='celery', routing_key='nobody', mandatory=True)
    except Exception as exc:
        env.log.note('raised %r' % exc)
    env.log.note('exchange does not exist, confirm')
    try:
        c.tasks['cap.add'].apply_async((1, 2), exchange='missing-exchange', routing_key='nobody', retry=False)
    except Exception as exc:
        env.log.note('raised %r' % exc)
    env.log.note('a queue full with x-overflow reject-publish, confirm')
    with c.connection_for_write() as conn:
        ch = conn.channel()
        ch.queue_declare('full', durable=True, auto_delete=False, arguments={'x-max-length': 1, 'x-overflow': 'reject-publish'})
    for i in range(3):
        try:
            with c.connection_for_write() as conn:
                p = c.amqp.Producer(conn, auto_declare=False)
                p.publish({'i': i}, routing_key='full', exchange='', serializer='json')
        except Exception as exc:
            env.log.note('raised %r' % exc)
    env.end('publisher confirms')


@scenario
def worker_full(env):
    """default settings, prefork, events on, control, gossip, mingle; a neighbour; shutdown"""
    p = env.worker('-E', conc=2)
    time.sleep(1)
    env.extra['state_one_worker'] = env.state('queues', 'exchanges', 'bindings', 'consumers', 'channels')
    env.log.note('second worker w2 starts (role worker2)')
    p2 = env.worker('-E', role='worker2', node='w2@host.example')
    time.sleep(0.5)
    c = env.client()
    env.log.note('client: control.ping')
    env.extra['ping'] = c.control.ping(timeout=1.0)
    env.log.note('client: inspect stats of w1 only')
    st = c.control.inspect(['w1@host.example'], timeout=1.0).stats()
    env.extra['stats_broker'] = list(st.values())[0]['broker'] if st else None
    env.extra['stats_prefetch'] = list(st.values())[0]['prefetch_count'] if st else None
    aq = c.control.inspect(['w1@host.example'], timeout=1.0).active_queues()
    env.extra['active_queues'] = aq
    env.log.note('client: revoke without reply')
    c.control.revoke('id-of-nothing')
    time.sleep(0.5)
    env.log.note('client: one task')
    c.tasks['cap.add'].apply_async((1, 2))
    time.sleep(0.5)
    env.extra['state_two_workers_and_client'] = env.state('queues', 'bindings')
    env.log.note('worker w2: SIGTERM')
    env.stop(p2)
    env.log.note('worker w1: SIGTERM')
    env.stop(p)
    time.sleep(0.5)
    env.extra['state_after_shutdown'] = env.state('queues', 'exchanges')
    env.end('worker -c 2 -E, all features on', keep=lambda r: r.get('m') != 'heartbeat', drop_handshake=True)


@scenario
def acks(env):
    c = env.client()
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conf={'worker_prefetch_multiplier': 4})
    say = env.log.note

    def one(title, name, *a, wait=1.2, **k):
        say(title)
        c.tasks[name].apply_async(a, **k)
        time.sleep(wait)
    one('early ack', 'cap.sleep', 0.6)
    one('late ack', 'cap.late', 0.6)
    one('failure, early', 'cap.fail')
    one('failure, late, acks_on_failure_or_timeout false', 'cap.late_fail')
    one('Reject(requeue=False), late', 'cap.reject')
    one('Reject(requeue=True), late; second run sees redelivered', 'cap.requeue')
    one('retry with countdown 0.5', 'cap.retry', wait=2)
    one('eta (countdown 1) on a classic queue', 'cap.add', 1, 2, countdown=1, wait=2)
    one('delivery_info seen by the task', 'cap.info', priority=3)
    say('unknown task')
    c.send_task('cap.unknown', (1,))
    time.sleep(0.6)
    say('revoked task')
    c.control.revoke('revoked-1')
    time.sleep(0.4)
    c.tasks['cap.add'].apply_async((1, 2), task_id='revoked-1')
    time.sleep(0.6)
    say('content type not accepted')
    with c.connection_for_write() as conn:
        prod = c.amqp.Producer(conn, auto_declare=False)
        prod.publish(b'x', routing_key='celery', exchange='', content_type='application/x-nothing', content_encoding='binary',
                     headers={'task': 'cap.add', 'id': 'bad-1'})
        time.sleep(0.6)
        say('no headers at all, body not a task')
        prod.publish({'hello': 1}, routing_key='celery', exchange='', serializer='json')
        time.sleep(0.6)
        say('minimal headers: task and id as field type S')
        prod.publish('[[1, 2], {}, {}]', routing_key='celery', exchange='', content_type='application/json', content_encoding='utf-8',
                     headers={'task': 'cap.info', 'id': 'min-1'})
        time.sleep(0.3)
        prod.publish('[[], {}, {}]', routing_key='celery', exchange='', content_type='application/json', content_encoding='utf-8',
                     headers={'task': 'cap.info', 'id': 'min-2'})
        time.sleep(0.6)
    env.extra['info'] = env.worker_log(grep='INFO .*delivery_info')
    env.extra['log'] = env.worker_log(grep=r'(CRITICAL|WARNING|ERROR)/MainProcess')
    env.end('ack, reject, requeue and retry of a default worker on a classic queue, prefetch 4',
            keep=lambda r: r.get('m') not in ('heartbeat',) and not (r.get('conn', '').startswith('client')
                                                                      and r.get('m', '').startswith(('channel', 'connection', 'exchange', 'queue'))))


@scenario
def hard_kill(env):
    """unacked messages of a killed worker come back redelivered"""
    c = env.client()
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo')
    env.log.note('late task of 3 s, a second one waits prefetched; worker is killed with SIGKILL after 1 s')
    c.tasks['cap.late'].apply_async((3,), task_id='killed-1')
    c.tasks['cap.info'].apply_async((), task_id='waiting-1')
    time.sleep(1)
    p.kill()
    p.wait()
    env.log.note('new worker')
    env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo', role='worker2')
    time.sleep(4)
    env.extra['info'] = env.worker_log('worker2', grep='INFO .*delivery_info')
    env.end('SIGKILL of a worker: the server requeues, redelivered flag true', keep=lambda r: r.get('m') in (
        'basic.deliver', 'basic.ack', '(closed)') or 'note' in r)


@scenario
def warm_shutdown(env):
    c = env.client()
    p = env.worker(conc=1, conf={'worker_prefetch_multiplier': 4})
    env.log.note('running task of 3 s and three waiting in the prefetch buffer, then SIGTERM')
    c.tasks['cap.sleep'].apply_async((3,), task_id='running-1')
    for i in range(3):
        c.tasks['cap.add'].apply_async((i, i), task_id='waiting-%d' % i)
    time.sleep(1)
    env.log.note('SIGTERM')
    rc = env.stop(p)
    env.log.note('exit code %r' % rc)
    env.extra['state'] = env.state('queues')
    env.end('warm shutdown with prefetched messages', keep=lambda r: 'note' in r or (
        r['conn'].startswith('worker') and r.get('m') not in ('heartbeat',) and not (
            r.get('m') == 'basic.publish' and r['a']['exchange'] == 'celeryev' and 'heartbeat' in r['a']['routing_key'])))


@scenario
def priority(env):
    conf = {'task_queue_max_priority': 10, 'task_default_priority': 5}
    c = env.client(**conf)
    for pr in (None, 0, 3, 9, 10, 200):
        env.log.note('priority %r' % pr)
        try:
            c.tasks['cap.info'].apply_async(**({} if pr is None else {'priority': pr}))
        except Exception as exc:
            env.log.note('raised %r' % exc)
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo',
                   conf=dict(conf, worker_prefetch_multiplier=1))
    time.sleep(1.5)
    env.extra['info'] = env.worker_log(grep='INFO .*delivery_info')
    env.extra['state'] = env.state('queues')
    env.end('x-max-priority 10, default priority 5; deliveries in server order')


@scenario
def rpc_backend(env):
    c = env.client(result_backend='rpc://')
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conf={'result_backend': 'rpc://'})
    r = c.tasks['cap.add'].apply_async((1, 2))
    env.extra['result'] = r.get(timeout=5)
    r = c.tasks['cap.fail'].apply_async()
    try:
        r.get(timeout=5)
    except Exception as exc:
        env.extra['failure'] = repr(exc)
    env.log.note('result_persistent true')
    c2 = env.client('client2', result_backend='rpc://', result_persistent=True)
    r = c2.tasks['cap.add'].apply_async((2, 2))
    env.extra['result2'] = r.get(timeout=5)
    env.extra['state'] = env.state('queues', 'bindings')
    env.log.note('reply_to a queue that does not exist')
    c.tasks['cap.add'].apply_async((3, 3), reply_to='no-such-queue')
    time.sleep(1)
    env.end('rpc:// result backend; worker publishes from a pool child on its own connection')


@scenario
def events_receiver(env):
    c = env.client()
    got = []
    with c.connection_for_read() as conn:
        recv = c.events.Receiver(conn, handlers={'*': lambda e: got.append(e['type'])})
        t = threading.Thread(target=lambda: recv.capture(limit=None, timeout=4, wakeup=True), daemon=True)

        def run():
            try:
                recv.capture(limit=None, timeout=4, wakeup=True)
            except Exception as exc:
                env.log.note('receiver ended: %s' % type(exc).__name__)
        t = threading.Thread(target=run, daemon=True)
        t.start()
        time.sleep(0.5)
        env.extra['state'] = env.state('queues', 'bindings')
        p = env.worker('-E', conc=1)
        c2 = env.client('sender', task_send_sent_event=True)
        c2.tasks['cap.add'].apply_async((1, 2))
        c2.tasks['cap.fail'].apply_async()
        time.sleep(2)
        env.stop(p)
        t.join(8)
    env.extra['seen'] = got
    env.end('event receiver (client) with a worker -E and a sender with task_send_sent_event')


@scenario
def quorum(env):
    conf = {'task_default_queue_type': 'quorum', 'task_default_exchange_type': 'topic'}
    p = env.worker(conf=conf, conc=1)
    time.sleep(0.5)
    env.extra['state'] = env.state('queues', 'exchanges', 'bindings', 'consumers')
    env.extra['channels'] = env.state('channels')
    c = env.client(**conf)
    say = env.log.note
    say('plain task')
    c.tasks['cap.info'].apply_async()
    for cd in (3, 1, 0.5, 2.9):
        say('countdown=%r' % cd)
        try:
            c.tasks['cap.info'].apply_async(countdown=cd, task_id='cd-%s' % cd)
        except Exception as exc:
            say('raised %r' % exc)
    say('retry with countdown 2')
    c.tasks['cap.retry'].apply_async((2,), task_id='retry-2')
    time.sleep(8)
    say('Reject(requeue=True)')
    c.tasks['cap.requeue'].apply_async()
    time.sleep(1.5)
    say('priority 3 on a quorum queue')
    c.tasks['cap.info'].apply_async(priority=3)
    time.sleep(1)
    env.extra['info'] = env.worker_log(grep='INFO .*delivery_info')
    env.extra['log'] = env.worker_log(grep=r'(CRITICAL|WARNING|ERROR|QoS)')
    env.stop(p)
    env.extra['state_after'] = env.state('queues')
    env.end('quorum default queue on a topic exchange: native delayed delivery')


@scenario
def quorum_direct(env):
    conf = {'task_default_queue_type': 'quorum'}
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conf=conf, conc=1)
    c = env.client(**conf)
    env.log.note('countdown=2, direct exchange: held by the worker')
    c.tasks['cap.info'].apply_async(countdown=2)
    time.sleep(3)
    env.extra['log'] = env.worker_log(grep=r'(CRITICAL|WARNING|ERROR|QoS|elay|direct)')
    env.extra['state'] = env.state('bindings')
    env.end('quorum default queue with the default (direct) exchange: no native delay',
            keep=lambda r: 'note' in r or r['m'] in ('basic.publish', 'basic.deliver', 'basic.ack', 'basic.qos', 'basic.consume')
            or (r['m'] in ('exchange.bind', 'queue.bind') and 'celery_delayed' not in r['a'].get('queue', r['a'].get('destination', ''))))


@scenario
def dead_letter(env):
    q = [{'name': 'work', 'type': 'direct', 'arguments': {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'}}]
    conf = {'task_queues': q, 'task_default_queue': 'work', 'task_default_exchange': 'work', 'task_default_routing_key': 'work'}
    c = env.client(**conf)
    with c.connection_for_write() as conn:
        conn.default_channel.queue_declare('dead', durable=True, auto_delete=False)
    env.log.note('expires=0.3 without a worker: dead-lettered at expiry')
    c.tasks['cap.add'].apply_async((9, 9), expires=0.3, task_id='expired-1')
    time.sleep(0.8)
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conf=conf)
    env.log.note('Reject(requeue=False), late')
    c.tasks['cap.reject'].apply_async(task_id='rejected-1')
    env.log.note('unknown task')
    c.send_task('cap.unknown', task_id='unknown-1')
    env.log.note('late failure, not acked on failure')
    c.tasks['cap.late_fail'].apply_async(task_id='failed-1')
    time.sleep(2)
    env.log.note('reading the dead queue')
    d = env.client('reader', **conf)
    with d.connection_for_read() as conn:
        ch = conn.default_channel
        while True:
            m = ch.basic_get('dead', no_ack=True)
            if m is None:
                break
    env.end('dead letter exchange on the task queue', keep=lambda r: 'note' in r or r['m'] in (
        'queue.declare', 'basic.publish', 'basic.reject', 'basic.ack', 'basic.nack', 'basic.get-ok'))


@scenario
def precondition(env):
    c0 = env.client('setup')
    with c0.connection_for_write() as conn:
        ch = conn.default_channel
        ch.exchange_declare('celery', 'direct', durable=True, auto_delete=False)
        ch.queue_declare('celery', durable=True, auto_delete=False, arguments={'x-max-priority': 5})
        ch.queue_bind('celery', 'celery', 'celery')
    env.log.note('queue celery exists with x-max-priority 5; client without it publishes')
    c = env.client()
    try:
        c.tasks['cap.add'].apply_async((1, 2))
        env.log.note('publish returned')
    except Exception as exc:
        env.log.note('publish raised %s: %s' % (type(exc).__name__, exc))
    env.log.note('worker without it starts')
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo', wait=False)
    time.sleep(6)
    env.log.note('worker after 6 s: exit code %r' % p.poll())
    env.extra['log'] = env.worker_log(grep=r'(PRECONDITION|CRITICAL|Unrecoverable|ERROR|WARNING)')[:20]
    env.stop(p)
    env.extra['state'] = env.state('queues')
    env.end('406 on redeclare with other arguments')


@scenario
def same_node_name(env):
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo')
    env.log.note('second worker with the same node name')
    p2 = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo', role='worker2', wait=False)
    time.sleep(6)
    env.log.note('second worker after 6 s: exit code %r' % p2.poll())
    env.extra['log'] = env.worker_log('worker2', grep=r'(RESOURCE|CRITICAL|Unrecoverable|ERROR|WARNING|lock)')[:20]
    env.end('exclusive node mailbox queue: the second worker of one name', keep=lambda r: 'note' in r or r['conn'].startswith('worker2'))


@scenario
def refused(env):
    from kombu import Connection
    host = 'pyamqp://guest:%s@127.0.0.1:%d/%s'
    env.url('client')
    port = env.prox['client'].port
    for title, url in (('wrong password', host % ('nope', port, env.vhost)), ('vhost does not exist', host % ('guest', port, 'v-none'))):
        env.log.note(title)
        try:
            Connection(url).connect()
        except Exception as exc:
            env.log.note('raised %s: %s' % (type(exc).__name__, exc))
    env.log.note('user without any permission')
    env.ctl('delete_user', 'weak', check=False)
    env.ctl('add_user', 'weak', 'weak')
    env.ctl('set_permissions', '-p', env.vhost, 'weak', '', '', '')
    try:
        with Connection('pyamqp://weak:weak@127.0.0.1:%d/%s' % (port, env.vhost)) as conn:
            conn.default_channel.queue_declare('x')
    except Exception as exc:
        env.log.note('raised %s: %s' % (type(exc).__name__, exc))
    env.ctl('delete_user', 'weak', check=False)
    env.end('refused connections and permissions', drop_handshake=False)


@scenario
def heartbeats(env):
    c = env.client(broker_heartbeat=4)
    env.log.note('worker with broker_heartbeat=4, idle for 7 s')
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo', conf={'broker_heartbeat': 4})
    time.sleep(7)
    env.log.note('network freezes (nothing is forwarded)')
    env.prox['worker'].frozen = True
    n = len(env.log.rows)
    time.sleep(14)
    env.log.note('network works again')
    env.prox['worker'].frozen = False
    time.sleep(4)
    env.extra['log'] = env.worker_log(grep=r'(eartbeat|CRITICAL|WARNING|ERROR|onnect)')[:20]
    env.end('heartbeat 4 s: who sends when; what a frozen peer causes', drop_handshake=False,
            keep=lambda r: 'note' in r or r['m'] in ('heartbeat', 'connection.tune', 'connection.tune-ok', '(closed)', 'connection.close', 'protocol-header', 'basic.consume'))


@scenario
def blocked(env):
    c = env.client()
    c.tasks['cap.add'].apply_async((1, 2))
    p = env.worker('--without-gossip', '--without-mingle', '-P', 'solo')
    env.log.note('memory alarm on')
    env.ctl('set_vm_memory_high_watermark', 'absolute', '1')
    time.sleep(1)
    env.log.note('client publishes')
    t = time.time()
    res = []

    def pub():
        try:
            c.tasks['cap.add'].apply_async((3, 4))
            res.append('returned')
        except Exception as exc:
            res.append('raised %r' % exc)
    th = threading.Thread(target=pub, daemon=True)
    th.start()
    th.join(4)
    env.log.note('publish after %.1f s: %r' % (time.time() - t, res))
    th2 = threading.Thread(target=pub, daemon=True)
    th2.start()
    th2.join(3)
    env.log.note('second publish: %r' % res)
    env.log.note('memory alarm off')
    env.ctl('set_vm_memory_high_watermark', 'absolute', '2GB')
    time.sleep(2)
    env.log.note('results %r' % res)
    env.log.note('with confirm_publish: alarm on')
    c2 = env.client('confirming', broker_transport_options={'confirm_publish': True})
    c2.tasks['cap.add'].apply_async((1, 2))
    env.ctl('set_vm_memory_high_watermark', 'absolute', '1')
    res2 = []

    def pub2():
        try:
            c2.tasks['cap.add'].apply_async((5, 6))
            res2.append('returned')
        except Exception as exc:
            res2.append('raised %r' % exc)
    th = threading.Thread(target=pub2, daemon=True)
    th.start()
    th.join(4)
    env.log.note('confirmed publish after 4 s: %r' % res2)
    env.ctl('set_vm_memory_high_watermark', 'absolute', '2GB')
    th.join(5)
    env.log.note('after the alarm: %r' % res2)
    env.extra['log'] = env.worker_log(grep=r'(lock|CRITICAL|WARNING|ERROR)')[:20]
    env.end('memory alarm: connection.blocked', keep=lambda r: r.get('m') != 'heartbeat')


@scenario
def restart(env):
    c = env.client()
    p = env.worker('-E', conc=2)
    env.log.note('late task of 6 s running, one waiting for eta 4 s, then the node is killed with SIGKILL')
    c.tasks['cap.late'].apply_async((6,), task_id='late-6')
    c.tasks['cap.info'].apply_async(countdown=4, task_id='eta-4')
    time.sleep(1)
    t = time.time()
    env.log.note('kill -9')
    subprocess.run(env.o.restart, shell=True, check=True)
    env.log.note('node accepts again after %.1f s' % (time.time() - t))
    time.sleep(18)
    env.extra['log'] = env.worker_log(grep=r'(onnection|CRITICAL|WARNING|ERROR|ready|refetch|received|succeeded|redelivered)')
    env.extra['info'] = env.worker_log(grep='INFO .*delivery_info')
    env.log.note('client publishes again on its old connection')
    try:
        c.tasks['cap.add'].apply_async((1, 2), task_id='after-restart')
        env.log.note('returned')
    except Exception as exc:
        env.log.note('raised %r' % exc)
    time.sleep(1)
    env.log.note('rabbitmqctl close_all_connections')
    env.ctl('close_all_connections', '-p', env.vhost, 'test says bye')
    time.sleep(6)
    env.extra['log2'] = env.worker_log(grep=r'(onnection|CRITICAL|WARNING|ERROR|refetch)')[-12:]
    env.extra['state'] = env.state('queues')
    env.end('node killed and restarted, then all connections closed by the operator', drop_handshake=False,
            keep=lambda r: 'note' in r or (r.get('m') not in ('heartbeat', 'connection.start', 'connection.start-ok', 'connection.tune',
                                                              'connection.tune-ok', 'connection.open', 'connection.open-ok')
                                           and not (r.get('m') in ('basic.publish', 'basic.deliver') and (
                                               r['a']['exchange'] == 'celeryev'))))


@scenario
def restart_confirm(env):
    """the same with publisher confirms"""
    c = env.client(broker_transport_options={'confirm_publish': True})
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conc=1)
    env.log.note('confirmed: late task of 6 s running, one waiting for eta 4 s; node killed with SIGKILL after 1 s')
    c.tasks['cap.late'].apply_async((6,), task_id='late-6')
    c.tasks['cap.info'].apply_async(countdown=4, task_id='eta-4')
    time.sleep(1)
    env.log.note('kill -9')
    t = time.time()
    subprocess.run(env.o.restart, shell=True, check=True)
    env.log.note('node accepts again after %.1f s' % (time.time() - t))
    time.sleep(22)
    env.extra['log'] = env.worker_log(grep=r'(onnection|CRITICAL|ERROR|ready|received|succeeded)')
    env.extra['state'] = env.state('queues')
    env.end('persistent messages that the server had confirmed', keep=lambda r: 'note' in r or r.get('m') in (
        'basic.publish', 'basic.deliver', 'basic.ack', 'basic.qos', 'queue.declare', 'queue.declare-ok', '(closed)', 'basic.consume'))


@scenario
def consumer_timeout(env):
    env.ctl('eval', 'application:set_env(rabbit, consumer_timeout, 3000).')
    env.ctl('eval', 'application:set_env(rabbit, channel_tick_interval, 1000).')
    c = env.client()
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conc=1)
    env.log.note('consumer_timeout 3 s; late task of 8 s and an eta of 30 s')
    c.tasks['cap.late'].apply_async((8,), task_id='late-8')
    c.tasks['cap.add'].apply_async((1, 1), countdown=30, task_id='eta-30')
    time.sleep(20)
    env.extra['log'] = env.worker_log(grep=r'(timeout|onnection|CRITICAL|WARNING|ERROR|received|succeeded|PRECONDITION)')
    env.ctl('eval', 'application:set_env(rabbit, consumer_timeout, 1800000).')
    env.ctl('eval', 'application:set_env(rabbit, channel_tick_interval, 60000).')
    env.end('delivery acknowledgement timeout', keep=lambda r: r.get('m') != 'heartbeat')


@scenario
def queue_deleted(env):
    c = env.client()
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo')
    env.log.note('operator deletes the queue celery')
    env.ctl('delete_queue', '-p', env.vhost, 'celery')
    time.sleep(5)
    env.extra['log'] = env.worker_log(grep=r'(onnection|CRITICAL|WARNING|ERROR|ancel)')
    c.tasks['cap.add'].apply_async((1, 2))
    time.sleep(1)
    env.end('server-sent basic.cancel', keep=lambda r: r.get('m') != 'heartbeat')


@scenario
def broadcast_direct(env):
    """worker_direct, Broadcast queue, add_consumer and cancel_consumer"""
    p = env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-P', 'solo', '-Q', 'celery,video',
                   conf={'worker_direct': True})
    c = env.client()
    env.log.note('add_consumer extra')
    c.control.add_consumer('extra', reply=True)
    time.sleep(1)
    env.log.note('cancel_consumer video')
    c.control.cancel_consumer('video', reply=True)
    time.sleep(1)
    env.extra['state'] = env.state('queues', 'bindings')
    env.end('-Q celery,video with worker_direct; add_consumer, cancel_consumer', keep=lambda r: 'note' in r or r['conn'].startswith('worker'))


@scenario
def quorum_routes(env):
    """two quorum queues on topic exchanges: delayed retry from the queue that is not the default one"""
    qs = [{'name': 'celery', 'type': 'topic', 'arguments': {'x-queue-type': 'quorum'}},
          {'name': 'other', 'type': 'topic', 'routing_key': 'other.key', 'arguments': {'x-queue-type': 'quorum'}}]
    conf = {'task_queues': qs, 'task_default_exchange_type': 'topic'}
    env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-Q', 'celery', role='wdefault', node='w1@host.example', conf=conf)
    env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', '-Q', 'other', role='wother', node='w2@host.example', conf=conf)
    c = env.client(**conf)
    say = env.log.note
    say('task with queue=other that retries with countdown 1 (max_retries 1)')
    c.tasks['cap.retry'].apply_async((1,), queue='other', task_id='retry-from-other')
    time.sleep(4)
    say('task with queue=other, countdown 1, that then retries with countdown 1')
    c.tasks['cap.retry'].apply_async((1,), queue='other', countdown=1, task_id='delayed-retry-from-other')
    time.sleep(5)
    say('task with queue=other, countdown 1, that then retries with countdown 0')
    c.tasks['cap.retry'].apply_async((0,), queue='other', countdown=1, task_id='delayed-retry0-from-other')
    time.sleep(4)
    say('task with queue=other that retries with countdown 0.5')
    c.tasks['cap.retry'].apply_async((0.5,), queue='other', task_id='retry-half')
    time.sleep(3)
    env.extra['log_default'] = env.worker_log('wdefault', grep=r'(received|ERROR|Retry)')
    env.extra['log_other'] = env.worker_log('wother', grep=r'(received|ERROR|Retry|ValueError)')
    env.end('native delayed delivery: where retries go', keep=lambda r: 'note' in r or r.get('m') in (
        'basic.publish', 'basic.deliver', 'basic.ack', 'basic.reject'))


@scenario
def quorum_prefetch(env):
    """does basic.qos(global=false) after basic.consume change anything?"""
    import amqp
    env.url('client')
    for qtype in ('classic', 'quorum'):
        env.log.note('%s queue: qos(2, false), consume, then qos(4, false), then qos(6, true); 8 messages wait' % qtype)
        conn = amqp.Connection(host='127.0.0.1:%d' % env.prox['client'].port, virtual_host=env.vhost)
        conn.connect()
        ch = conn.channel()
        ch.queue_declare('q-' + qtype, durable=True, auto_delete=False, arguments={'x-queue-type': qtype})
        for i in range(8):
            ch.basic_publish(amqp.Message('%d' % i, delivery_mode=2), routing_key='q-' + qtype)
        time.sleep(0.3)
        got = []

        def drain(t=0.7):
            end = time.time() + t
            while time.time() < end:
                try:
                    conn.drain_events(timeout=0.2)
                except OSError:
                    pass
        try:
            ch.basic_qos(0, 2, False)
            ch.basic_consume('q-' + qtype, callback=got.append)
            drain()
            env.log.note('%s: delivered %d' % (qtype, len(got)))
            ch.basic_qos(0, 4, False)
            drain()
            env.log.note('%s: delivered after qos(4, false): %d' % (qtype, len(got)))
            ch.basic_ack(got[0].delivery_tag)
            drain()
            env.log.note('%s: delivered after one ack: %d' % (qtype, len(got)))
            ch.basic_qos(0, 6, True)
            drain()
            env.log.note('%s: delivered after qos(6, true): %d' % (qtype, len(got)))
        except Exception as exc:
            env.log.note('%s: raised %r' % (qtype, exc))
        try:
            conn.close()
        except Exception:
            pass
    env.log.note('quorum queue: qos(2, true) first, then consume')
    conn = amqp.Connection(host='127.0.0.1:%d' % env.prox['client'].port, virtual_host=env.vhost)
    conn.connect()
    ch = conn.channel()
    try:
        ch.basic_qos(0, 2, True)
        ch.basic_consume('q-quorum', callback=print)
        env.log.note('accepted')
    except Exception as exc:
        env.log.note('raised %r' % exc)
    env.end('prefetch semantics of the server')


@scenario
def redeclare(env):
    """which differences does the server refuse?"""
    import amqp
    env.url('client')
    patch_long()

    def tryit(title, f):
        conn = amqp.Connection(host='127.0.0.1:%d' % env.prox['client'].port, virtual_host=env.vhost)
        conn.connect()
        try:
            f(conn.channel())
            env.log.note(title + ': accepted')
        except Exception as exc:
            env.log.note('%s: %s' % (title, str(exc)[:260]))
        try:
            conn.close()
        except Exception:
            pass
    q = dict(durable=True, auto_delete=False)
    tryit('quorum queue', lambda c: c.queue_declare('q', arguments={'x-queue-type': 'quorum'}, **q))
    tryit('same again without arguments', lambda c: c.queue_declare('q', **q))
    tryit('passive declare without arguments', lambda c: c.queue_declare('q', passive=True))
    tryit('as classic', lambda c: c.queue_declare('q', arguments={'x-queue-type': 'classic'}, **q))
    tryit('classic queue without arguments', lambda c: c.queue_declare('c', **q))
    tryit('same with x-queue-type classic', lambda c: c.queue_declare('c', arguments={'x-queue-type': 'classic'}, **q))
    tryit('same as quorum', lambda c: c.queue_declare('c', arguments={'x-queue-type': 'quorum'}, **q))
    tryit('not durable', lambda c: c.queue_declare('c', durable=False, auto_delete=False))
    tryit('with an unknown x-foo argument', lambda c: c.queue_declare('c', arguments={'x-foo': 1}, **q))
    tryit('x-expires as long', lambda c: c.queue_declare('e', arguments={'x-expires': 10000}, **q))
    tryit('x-expires as 64 bit (type l), same number', lambda c: c.queue_declare('e', arguments={'x-expires': Long(10000)}, **q))
    tryit('x-expires as text', lambda c: c.queue_declare('e2', arguments={'x-expires': '10000'}, **q))
    tryit('x-max-priority 10', lambda c: c.queue_declare('p', arguments={'x-max-priority': 10}, **q))
    tryit('x-max-priority on a quorum queue', lambda c: c.queue_declare('pq', arguments={'x-max-priority': 10, 'x-queue-type': 'quorum'}, **q))
    tryit('quorum queue exclusive', lambda c: c.queue_declare('eq', durable=False, exclusive=True, arguments={'x-queue-type': 'quorum'}))
    tryit('transient, not exclusive queue (old celery mailbox)', lambda c: c.queue_declare('t', durable=False, auto_delete=True))
    tryit('exchange celery direct', lambda c: c.exchange_declare('celery', 'direct', durable=True, auto_delete=False))
    tryit('exchange celery topic', lambda c: c.exchange_declare('celery', 'topic', durable=True, auto_delete=False))
    tryit('expiration that is not a number', lambda c: (c.basic_publish(amqp.Message('x', expiration='1.5'), routing_key='c'), time.sleep(0.3), c.basic_get('c')))
    tryit('global qos', lambda c: c.basic_qos(0, 5, True))
    tryit('global qos, then consume from quorum', lambda c: (c.basic_qos(0, 5, True), c.basic_consume('q', callback=print)))
    tryit('ack of an unknown tag', lambda c: (c.basic_ack(99), time.sleep(0.3), c.basic_get('c')))
    tryit('consume with a tag that is in use', lambda c: (c.basic_consume('c', consumer_tag='x', callback=print), c.basic_consume('c', consumer_tag='x', callback=print)))
    env.end('server rules for declarations, one connection per try', keep=lambda r: 'note' in r or r.get('m') in ('channel.close', 'connection.close'))


class Long(int):
    """written as a 64 bit integer by the patch below"""


def patch_long():
    import amqp.serialization as s
    orig = s._write_item
    import functools

    @functools.wraps(orig)
    def write_item(v, write, bits, *a, **k):
        if isinstance(v, Long):
            write(s.pack('>cq', b'l', int(v)))
            return
        return orig(v, write, bits, *a, **k)
    s._write_item = write_item



@scenario
def eta_blocks(env):
    """do eta tasks use up the prefetch window?"""
    c = env.client()
    env.worker('--without-gossip', '--without-mingle', '--without-heartbeat', conc=1, conf={'worker_prefetch_multiplier': 2})
    env.log.note('prefetch 2: two tasks with countdown 5, then a plain one')
    for i in range(2):
        c.tasks['cap.add'].apply_async((i, i), countdown=5, task_id='eta-%d' % i)
    time.sleep(0.3)
    t = time.time()
    c.tasks['cap.add'].apply_async((9, 9), task_id='plain')
    time.sleep(7)
    env.end('two eta tasks fill a prefetch of 2; is the plain task delivered?', drop_handshake=False, keep=lambda r: 'note' in r or r.get('m') in (
        'basic.qos', 'basic.publish', 'basic.deliver', 'basic.ack', 'connection.tune', 'connection.tune-ok'))


@scenario
def connections(env):
    """heartbeat of every connection of a worker"""
    c = env.client()
    env.worker('-E', conc=1)
    c.tasks['cap.retry'].apply_async((0.2,))
    time.sleep(2)
    env.extra['list_connections'] = json.loads(env.ctl('--formatter', 'json', 'list_connections', 'vhost', 'timeout', 'channels', 'frame_max'))
    env.end('tune-ok and the first methods of each connection', drop_handshake=False, keep=lambda r: 'note' in r or r.get('m') in (
        'connection.tune', 'connection.tune-ok', 'channel.open', 'exchange.declare', 'basic.consume', 'basic.publish'))
