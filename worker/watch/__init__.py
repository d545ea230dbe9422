"""What a person sees of a running worker: metrics, logs, health. Nothing here decides anything."""

from worker.watch.health import Check, Health, Pulse
from worker.watch.http import serve_http
from worker.watch.logs import set_up_logs
from worker.watch.metrics import Metrics

__all__ = ["Check", "Health", "Metrics", "Pulse", "serve_http", "set_up_logs"]
