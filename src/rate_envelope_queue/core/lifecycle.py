"""The states of a queue and what leads from one to another. This table, and nothing else.

A terminated queue stays so. `QUIET` is the machine's own finding that nothing runs and nothing more may start; what
it leads to depends on whether the stop in progress is a terminate (`END`).
"""

from __future__ import annotations

from ..results import QueueState

INIT = QueueState.INIT
RUNNING = QueueState.RUNNING
STOPPING = QueueState.STOPPING
STOPPED = QueueState.STOPPED
TERMINATED = QueueState.TERMINATED

START = "start"
STOP = "stop"
TERMINATE = "terminate"
QUIET = "quiet"
END = "end"

TABLE: dict[tuple[QueueState, str], QueueState] = {
    (INIT, START): RUNNING,
    (STOPPED, START): RUNNING,
    (RUNNING, STOP): STOPPING,
    (INIT, TERMINATE): STOPPING,
    (RUNNING, TERMINATE): STOPPING,
    (STOPPED, TERMINATE): STOPPING,
    (STOPPING, QUIET): STOPPED,
    (STOPPING, END): TERMINATED,
}
