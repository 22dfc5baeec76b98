"""The tasks of reminders, declared. The modules beside this file are commands: ``python -m ...``."""

from app.celery_app import declare, runs_in_rust


@declare("app.tasks.reminders.send_due_reminders")
def send_due_reminders(current_time_iso=None):
    """Claims every reminder that is due, queues its delivery, and returns how many these were."""
    runs_in_rust("app.tasks.reminders.send_due_reminders")


@declare("app.tasks.reminders.deliver_reminder")
def deliver_reminder(reminder_id, current_time_iso=None, trace_id=None):
    """Delivers one reminder; ``False`` if there is none of that id."""
    runs_in_rust("app.tasks.reminders.deliver_reminder")
