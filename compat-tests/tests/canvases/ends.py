"""Random canvases in which one task will never complete: every id that the client knows ends, every errback is called once.

  ends.py SEED COUNT
"""
import json
import random
import re
import sys
import time

from canvas_app import app
from celery import chain, chord, group
from celery.result import GroupResult
from celery.signals import before_task_publish

READY = {"SUCCESS", "FAILURE", "REVOKED"}
# Why a task never completes.
WAYS = [
    "fails",
    "takes other arguments",
    "replaces itself with nothing",
    "is rejected",
    # Its errbacks have as long.
    "runs out of time",
    "is terminated",
    "is revoked",
    "expires",
    "is unknown",
    "has a header of a wrong type",
    "has an eta that is no time",
    "killed its worker too often",
    "has an outcome that cannot be stored",
]


def show(plan):
    """A plan in short: `o` completes, `X` never does."""
    kind, inner = plan[0], plan[1]
    if kind == "task":
        return "X" if inner else "o"
    members = ", ".join(map(show, inner))
    return f"chord([{members}], {show(plan[2])})" if kind == "chord" else f"{kind}({members})"


def ends_with_group(plan):
    if plan[0] == "chain":
        return ends_with_group(plan[1][-1])
    return plan[0] == "group" or plan[0] == "chord" and ends_with_group(plan[2])


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.case = 0

    def canvas(self):
        """A canvas of up to 40 tasks, one of which is odd; half of them have an errback for the whole."""
        self.case += 1
        self.count = 0
        self.way = self.random.choice(WAYS)
        leaves = []
        while not 2 <= len(leaves) <= 40:
            plan = self.plan(4)
            leaves = list(self.leaves(plan))
        self.random.choice(leaves)[1] = True
        signature = self.build(plan)
        self.has_errback = self.random.random() < 0.5
        if self.has_errback:
            signature.link_error(self.errback("all"))
        self.shown = show(plan)
        return signature

    def plan(self, depth):
        """A tree of ["task", is_odd], ["chain", members], ["group", members], ["chord", header, body]."""
        kinds = ["task"] if depth == 0 else ["task", "chain", "group", "chord", "chord"]
        kind = self.random.choice(kinds)
        if kind == "task":
            return ["task", False]
        members = []
        for _ in range(self.random.randint(2, 3)):
            # Celery runs what follows a group, if it ends with a group itself, once for each member.
            is_after_group = kind == "chain" and members and ends_with_group(members[-1])
            members.append(self.plan(0 if is_after_group else depth - 1))
        if kind == "chord":
            return ["chord", members, self.plan(depth - 1)]
        return [kind, members]

    def leaves(self, plan):
        if plan[0] == "task":
            yield plan
            return
        for member in plan[1]:
            yield from self.leaves(member)
        if plan[0] == "chord":
            yield from self.leaves(plan[2])

    def build(self, plan):
        kind = plan[0]
        if kind == "task":
            return self.odd() if plan[1] else self.even()
        members = [self.build(member) for member in plan[1]]
        if kind == "chain":
            return chain(*members)
        if kind == "group":
            return group(members)
        return chord(members, self.build(plan[2]))

    def tag(self):
        self.count += 1
        return f"{self.case}.{self.count}"

    def errback(self, tag):
        name = self.random.choice(["canvas.told", "canvas.told_here"])
        return app.signature(name, kwargs={"tag": f"{self.case}:{tag}"})

    def even(self):
        tag = self.tag()
        task = app.signature(self.random.choice(["canvas.wrap", "canvas.wrap_late"]), args=("x", tag), immutable=True)
        if self.random.random() < 0.3:
            task.link_error(self.errback(tag))
        if self.random.random() < 0.1:
            task.link(app.signature("canvas.wrap", args=("x", self.tag()), immutable=True))
        return task

    def odd(self):
        tag = self.tag()

        def task(name, *args):
            return app.signature("canvas." + name, args=args or ("x", tag), immutable=True)

        odd = {
            "fails": lambda: task("fail"),
            "takes other arguments": lambda: task("sleep", 1, 2, 3),
            "replaces itself with nothing": lambda: task("swap_nothing"),
            "is rejected": lambda: task("reject"),
            "runs out of time": lambda: task("sleep", 60).set(time_limit=5),
            "is terminated": lambda: task("sleep", 60).set(task_id=f"terminated-{self.case}"),
            "is revoked": lambda: task("wrap").set(task_id=f"revoked-{self.case}"),
            "expires": lambda: task("wrap").set(expires=-1),
            "is unknown": lambda: task("nobody"),
            "has a header of a wrong type": lambda: task("wrap").set(headers={"retries": "many"}),
            "has an eta that is no time": lambda: task("wrap").set(headers={"eta": "soon"}),
            "killed its worker too often": lambda: task("wrap_late").set(headers={"redelivered": True}),
            "has an outcome that cannot be stored": lambda: task("unstorable"),
        }[self.way]()
        odd.link_error(self.errback("odd"))
        return odd


SENT = set()
UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@before_task_publish.connect
def note(body=None, headers=None, **_):
    SENT.update(UUID.findall(json.dumps([body, headers])))


def ids(result):
    """All task ids that a result leads to, but for those that Celery's client makes anew and sends to nobody."""
    found, pending = set(), [result]
    while pending:
        result = pending.pop()
        if result is None:
            continue
        pending.append(result.parent)
        if isinstance(result, GroupResult):
            pending.extend(result.results)
        else:
            found.add(result.id)
    return {key for key in found if key in SENT or not UUID.fullmatch(key)}


def states(all_ids):
    keys = list(all_ids)
    stored = app.backend.client.mget([app.backend.get_key_for_task(key) for key in keys]) if keys else []
    return {key: json.loads(meta)["status"] if meta else "PENDING" for key, meta in zip(keys, stored)}


def wait_for(condition, deadline):
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def is_idle():
    redis = app.backend.client
    if redis.llen("celery") or redis.hlen("unacked"):
        return False
    answers = app.control.inspect(timeout=10, limit=1).active() or {"nobody": ["answers"]}
    return not any(answers.values())


def problems_of(canvas, found, told):
    """What is wrong with a canvas, given the states of all ids and how often each errback was called for which."""
    case, way, shown, has_errback, known = canvas
    here = {key.split(":", 1)[1]: times for key, times in told.items() if key.startswith(f"{case}:")}
    problems = [f"{key} is {found[key]}" for key in known if found[key] not in READY]
    problems += [f"the errback {key} was called {times} times" for key, times in here.items() if times != 1]
    for tag, is_due in [("odd", True), ("all", has_errback)]:
        calls = [key for key in here if key.startswith(tag + ":")]
        # A step that no worker can send fails the one before it.
        if is_due != bool(calls) and not (tag == "odd" and way == "has a header of a wrong type"):
            problems.append(f"the errback {tag} was called for {calls}")
    if not problems:
        return []
    return [f"{case}: {shown} where X {way}\n    " + "\n    ".join(problems)]


def run(seed, count):
    generator = Generator(seed)
    redis = app.backend.client
    app.control.revoke([f"revoked-{number}" for number in range(1, 2 * count + 1)])
    wrong, unsent = [], 0
    for start in range(0, count, 50):
        batch = []
        while len(batch) < min(50, count - start):
            canvas = generator.canvas()
            try:
                known = ids(canvas.apply_async())
            except AttributeError:
                # Celery's client cannot send a chord whose header is a list within the body of another.
                unsent += 1
                continue
            batch.append((generator.case, generator.way, generator.shown, generator.has_errback, known))
        everything = set().union(*(known for *_, known in batch))
        terminated = {f"terminated-{case}" for case, way, *_ in batch if way == "is terminated"}

        def problems():
            found = states(everything | terminated)
            running = [key for key in terminated if found[key] == "STARTED"]
            if running:
                app.control.revoke(running, terminate=True)
            told = {key.decode(): int(times) for key, times in redis.hgetall("told").items()}
            return [text for canvas in batch for text in problems_of(canvas, found, told)]

        patience = 10 if wrong else 60
        wait_for(lambda: not problems(), patience)
        wait_for(lambda: is_idle() and is_idle(), patience)
        wrong += problems()
    print(json.dumps({"canvases": count, "unsent": unsent, "wrong": wrong}))


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]))
