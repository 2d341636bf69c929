"""Look at every run: ``flowers ui``, or ``make ui``.

Serves the pages of MLflow on this machine until Ctrl-C, and prints their addresses, one for each experiment. Before,
runs whose process was killed are closed, and a project that was moved finds its figures again. The store is `uri`, else
MLFLOW_TRACKING_URI, else ``mlflow.db`` in this folder; a server's pages are served already.
"""

import errno
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

from flowers.config.cli import exit_on_user_error, read_arguments
from flowers.config.store_address import shown, sqlite_file, store_uri, without_secrets
from flowers.errors import UserError
from flowers.tracking.runs import list_experiments
from flowers.tracking.store import store_access

KIND = "?workflowType=machine_learning"
"""Without it, a new browser gets MLflow's pages for another kind of work."""
LOCAL = ("127.0.0.1", "localhost", "::1")
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes of no use here, which end in tracebacks
    "PYTHONWARNINGS": "ignore",
}


@dataclass
class Arguments:
    """Keys of the command."""

    port: int = 5000
    host: str = "127.0.0.1"
    uri: str | None = None


def check_port(host: str, port: int) -> None:
    """Find out whether pages can be served there.

    Raises:
        UserError: If not.
    """
    if not 0 < port < 65536:
        raise UserError(f"port={port} is no port; give a number from 1 to 65535, like 5000.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"host={host} is not known ({error}); leave it out to serve this machine.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is in use, perhaps by these very pages; look at {page(host, port)}, or give another "
                f"port, as in port={port + 1}."
            ) from error
        raise UserError(f"port={port} of host={host} cannot be served ({error}); give another, like 5000.") from error


def page(host: str, port: int) -> str:
    """Write the address that a browser on this machine finds the pages at."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def prepare(uri: str, base: str) -> list[str]:
    """Open and repair a store.

    Args:
        uri: An MLflow address.
        base: Of the pages.

    Returns:
        A line with its address for each experiment that has runs, the latest first.

    Raises:
        UserError: If the store cannot be used, or nothing is in it.
    """
    file = sqlite_file(uri)
    nothing = "make some with `make repro` or `flowers train`, or name another store with uri=sqlite:///FILE."
    if file is not None and not file.exists():
        raise UserError(f"there are no runs yet, for {file} does not exist; {nothing}")
    with store_access(uri, key="uri"):
        experiments = list_experiments(uri)
    if not experiments:
        raise UserError(f"there are no runs in {shown(uri)} yet; {nothing}")
    width = max(len(name) for _, name, _ in experiments)
    return [
        f"  {name:{width}}  {count:4} {'run ' if count == 1 else 'runs'}  {base}/#/experiments/{number}/runs{KIND}"
        for number, name, count in experiments
    ]


def server_command(uri: str, host: str, port: int) -> list[str]:
    """Write the command that serves the pages of a store."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    # One person looks: one process starts sooner than four, and they need no log of each other's visits.
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    file = sqlite_file(uri)
    return command if file is None else [*command, "--default-artifact-root", str(file.resolve().parent / "mlruns")]


def ui(arguments: Arguments) -> None:
    """Serve the pages until Ctrl-C.

    Raises:
        UserError: If they cannot be served, or there is nothing to see.
    """
    uri = store_uri(arguments.uri, key="uri")
    served = uri.startswith(("http:", "https:"))
    if not served:
        check_port(arguments.host, arguments.port)
    base = without_secrets(uri).rstrip("/") if served else page(arguments.host, arguments.port)
    print(f"MLflow: {shown(uri)}", flush=True)
    lines = prepare(uri, base)
    print("\n".join([*lines, f"  all         {base}"]))
    if served:
        return
    if arguments.host not in LOCAL:
        print(f"flowers: whoever reaches {arguments.host} can see, change and delete the runs.", file=sys.stderr)
    print("Ctrl-C ends it.", flush=True)
    environment, command = os.environ | ENVIRONMENT, server_command(uri, arguments.host, arguments.port)
    if os.name == "nt":  # where execve leaves the console to the next command
        sys.exit(subprocess.call(command, env=environment))
    os.execve(command[0], command, environment)


def main() -> None:
    """Serve what the command line names."""
    with exit_on_user_error():
        ui(read_arguments(Arguments))
