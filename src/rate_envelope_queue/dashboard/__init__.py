"""A page that shows queues: state, throughput, latency, what runs, what is due, dead letters; and lets you act.

Needs the extra `dashboard`. `dashboard(queue)` is an ASGI application to mount, `serve(queue)` serves it on a port.
"""

from .app import Dashboard, dashboard
from .server import Server, serve

__all__ = ["Dashboard", "Server", "dashboard", "serve"]
