"""The tasks of analytics, declared."""

from app.celery_app import declare, runs_in_rust


@declare("app.tasks.analytics.compute_daily_metrics")
def compute_daily_metrics(target_date_iso=None):
    """Computes the metrics of a day (``YYYY-MM-DD``); yesterday's by default."""
    runs_in_rust("app.tasks.analytics.compute_daily_metrics")
