"""Asks the processes of this host how they are: the health check of a container, without curl.

`python -m worker.healthcheck` asks /healthz of each admin port, `--ready` asks /readyz. A container
runs the receiver, the worker or both, so one port is enough to answer; every one that answers must
be well. It imports no more than it needs, as it runs every few seconds.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence

#: The settings that name the ports, and their defaults.
PORTS = {"RECEIVER_ADMIN_PORT": "9101", "WORKER_ADMIN_PORT": "9102"}
SECONDS = 3.0  #: less than the health check's own timeout
#: Where a process listens that listens everywhere.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def ask(host: str, port: int, path: str) -> str | None:
    """Nothing if all is well, else what is wrong; `ConnectionRefusedError` where nobody listens."""
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        reply = connection.getresponse()
        said = reply.read(2000).decode(errors="replace").strip()
    except ConnectionRefusedError:
        raise
    except (http.client.HTTPException, OSError) as fault:
        return f"port {port} does not answer: {type(fault).__name__}"
    finally:
        connection.close()
    return None if reply.status == 200 else f"port {port} says {reply.status}: {said}"


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """0 if all that listen are well, else 1 and a line that says why."""
    path = "/readyz" if "--ready" in words else "/healthz"
    given = environ.get("ADMIN_HOST", "").strip()
    faults, heard = [], 0
    for name, default in PORTS.items():
        port = int(environ.get(name, "").strip() or default)
        try:
            fault = ask(_LOOPBACK.get(given, given), port, path) if port else None
        except ConnectionRefusedError:
            continue  # the other process's port, or switched off
        heard += port != 0
        faults += [fault] if fault else []
    if not heard:
        faults = [f"nobody listens on {' or '.join(PORTS)}"]
    print("; ".join(faults) or "ok")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
