//! The tables of django-celery-beat, made and changed by Django itself.

use compat_tests::{PostgresServer, Process, PythonEnv, eventually, secs};

use crate::stage::{Stage, text};

const DJANGO: &str = "
import json, os, sys
import django
from django.conf import settings
from urllib.parse import urlsplit
url = urlsplit(os.environ['DATABASE'])
database = {'ENGINE': 'django.db.backends.sqlite3', 'NAME': url.path} if url.scheme == 'sqlite' else {
    'ENGINE': 'django.db.backends.postgresql', 'NAME': url.path[1:], 'HOST': url.hostname, 'PORT': url.port,
    'USER': url.username, 'PASSWORD': url.password or ''}
settings.configure(DATABASES={'default': database}, INSTALLED_APPS=['django_celery_beat'], USE_TZ=True, TIME_ZONE='UTC',
                   DEFAULT_AUTO_FIELD='django.db.models.AutoField')
django.setup()
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import *
from datetime import timedelta
";

struct Django {
    stage: Stage,
    url: String,
}

impl Django {
    fn new(url: impl FnOnce(&Stage) -> String) -> Self {
        let stage = Stage::new();
        let url = url(&stage);
        let django = Self { stage, url };
        django.script("call_command('migrate', verbosity=0)");
        django
    }

    fn script(&self, code: &str) -> String {
        let code = format!("{DJANGO}{code}");
        PythonEnv::get().script(&code).env("DATABASE", &self.url).deadline(secs(120)).run().success()
    }

    fn arguments(&self) -> [&str; 4] {
        ["-S", "django_celery_beat.schedulers:DatabaseScheduler", "--database", &self.url]
    }

    fn beat(&self, more: &[&str]) -> Process {
        self.stage.beat(&[&self.arguments()[..], more].concat())
    }
}

#[test]
fn what_django_keeps_in_sqlite_is_sent_and_written_back() {
    tables(&Django::new(|stage| format!("sqlite://{}", text(&stage.folder.path().join("db.sqlite3")))));
}

#[test]
fn what_django_keeps_in_postgresql_is_sent_and_written_back() {
    let database = PostgresServer::database();
    tables(&Django::new(|_| database.url().to_owned()));
}

fn tables(django: &Django) {
    django.script(
        "
second = IntervalSchedule.objects.create(every=1, period='seconds')
hour = IntervalSchedule.objects.create(every=1, period='hours')
nightly = CrontabSchedule.objects.create(minute='0', hour='3', timezone='Europe/Warsaw')
now = ClockedSchedule.objects.create(clocked_time=timezone.now())
PeriodicTask.objects.create(name='tick', task='proj.tick', interval=second, queue='ticks', priority=3, expire_seconds=60,
                            args='[1]', kwargs='{\"a\": 2}', headers='{\"x\": 1}')
PeriodicTask.objects.create(name='slow', task='proj.slow', interval=hour)
PeriodicTask.objects.create(name='nightly', task='proj.nightly', crontab=nightly)
PeriodicTask.objects.create(name='once', task='proj.once', clocked=now, one_off=True)
PeriodicTask.objects.create(name='off', task='proj.off', interval=second, enabled=False)
",
    );
    let mut beat = django.beat(&[]);
    beat.wait_for_lines("Sending due task tick", 2, secs(30));
    beat.wait_for_line("Sending due task once", secs(30));
    let message = &django.stage.messages("ticks\u{6}\u{16}3")[0];
    assert_eq!(message["headers"]["periodic_task_name"], "tick");
    assert_eq!((&message["headers"]["argsrepr"], &message["headers"]["x"]), (&"(1,)".into(), &1.into()));

    let state = django.script(
        "
tick, once = PeriodicTask.objects.get(name='tick'), PeriodicTask.objects.get(name='once')
print(tick.total_run_count >= 2, abs(timezone.now() - tick.last_run_at) < timedelta(seconds=30), once.enabled)
",
    );
    assert_eq!(state.trim(), "True True False");
    // A change in Django's admin is heeded at once.
    django.script(
        "
slow = PeriodicTask.objects.get(name='slow')
slow.interval = IntervalSchedule.objects.get(every=1, period='seconds')
slow.save()
tick = PeriodicTask.objects.get(name='tick')
tick.enabled = False
tick.save()
",
    );
    beat.wait_for_lines("Sending due task slow", 2, secs(30));
    let before = beat.lines_with("Sending due task tick").len();
    let slow = beat.lines_with("Sending due task slow").len();
    beat.wait_for_lines("Sending due task slow", slow + 2, secs(30));
    assert!(beat.lines_with("Sending due task tick").len() <= before + 1);
    assert!(beat.lines_with("Sending due task off").is_empty());

    // Operators do the same from the command line, and Django sees it.
    let with = |command: &[&'static str]| django.stage.says(&[&django.arguments()[..], command].concat());
    assert!(with(&["show", "nightly"]).contains("Europe/Warsaw"));
    with(&["resume", "tick"]);
    assert_eq!(django.script("print(PeriodicTask.objects.get(name='tick').enabled)").trim(), "True");
    let before = beat.lines_with("Sending due task tick").len();
    beat.wait_for_lines("Sending due task tick", before + 1, secs(30));

    // A second one stands by, and takes over.
    let mut second = django.beat(&[]);
    second.wait_for_line("standing by", secs(20));
    beat.kill();
    second.wait_for_line("Sending due task tick", secs(20));
    drop(second);

    // Configured entries become rows, as with Django's own scheduler.
    let file = django.stage.write(
        "schedule.toml",
        "[beat_schedule.mine]\ntask = 'proj.mine'\nschedule = 1\noptions = { queue = 'mine' }\n\
         [beat_schedule.dusk]\ntask = 'proj.dusk'\nschedule = { event = 'sunset', lat = 52.2, lon = 21.0 }\n\
         [beat_schedule.daily]\ntask = 'proj.daily'\nschedule = '0 1 * * *'\n",
    );
    let mut third = django.beat(&["--entries", text(&file)]);
    third.wait_for_line("Sending due task mine", secs(30));
    eventually("the rows are there", secs(10), || {
        let names = django.script(
            "
print(sorted(task.name for task in PeriodicTask.objects.all() if str(task.schedule)),
      PeriodicTask.objects.get(name='daily').crontab.hour)
",
        );
        names.contains("'daily', 'dusk', 'mine'") && names.contains("] 1")
    });
}
