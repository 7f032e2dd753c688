"""What ran, and where: the facts without which no figure means anything."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _package_version() -> str:
    try:
        return version("rate-envelope-queue")
    except PackageNotFoundError:
        return "from the source tree"


def facts() -> dict[str, Any]:
    """Versions and machine, as plain values."""
    return {
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "rate_envelope_queue": _package_version(),
        "core": "pure Python",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": not bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "switch_interval": sys.getswitchinterval(),
        "system": platform.platform(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def facts_text(found: dict[str, Any]) -> str:
    """The facts on three lines."""
    load = found["load_average"]
    return (
        f"rate-envelope-queue {found['rate_envelope_queue']} ({found['core']}), {found['python']}, "
        f"GIL {'on' if found['gil'] else 'off'}, switch interval {found['switch_interval'] * 1e3:g} ms\n"
        f"{found['processors']} x {found['processor']}, {found['system']}\n"
        f"{found['measured_utc']}, load average {'unknown' if load is None else f'{load[0]:.2f}'} at the start"
    )
