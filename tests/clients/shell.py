"""Runs the unmodified `openstack` command in this process and gives what it printed.

Starting an interpreter for each of a hundred commands would take minutes; the command's own entry point is
called instead, with the same arguments and environment.
"""

import contextlib
import io
import json
import logging
import multiprocessing
import os
import time

from openstackclient import shell


class CommandFailed(Exception):
    """A command ended with another status than 0."""

    def __init__(self, arguments, status, output):
        super().__init__(f"openstack {' '.join(arguments)}: status {status}\n{output}")
        self.output = output


def openstack(*arguments, output_json=True):
    """Runs `openstack ARGUMENTS`; gives its JSON, or its text for commands that print none."""
    started = time.monotonic()
    arguments = [str(argument) for argument in arguments]
    if output_json:
        arguments += ["-f", "json"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        command = shell.OpenStackShell()
        command.stdout, command.stderr = out, err
        try:
            status = command.run(arguments)
        except SystemExit as end:
            # What the command line itself refuses ends the program, with the reason on the error stream.
            status = f"{end.code} (the command line)"
    # Each run adds a handler that writes to the error stream of its own time.
    logging.getLogger("").handlers.clear()
    if status != 0:
        raise CommandFailed(arguments, status, out.getvalue() + err.getvalue())
    print(f"ok {time.monotonic() - started:.2f}s openstack {' '.join(arguments)}", flush=True)
    return json.loads(out.getvalue()) if output_json else out.getvalue()


def as_user(user, project, work, *arguments):
    """Gives what `work(*arguments)` gives when its commands log in as a user of tests/clients/keystone-seed.py.

    In a process of its own: the command keeps the session of its first login as long as its process lives.
    """
    login = {"OS_USERNAME": user, "OS_PROJECT_NAME": project}
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1, initializer=os.environ.update, initargs=(login,)) as pool:
        return pool.apply(work, arguments)


def becomes(what, ask):
    """Waits, at most ten seconds, until the answer holds some text; gives the answer."""
    bound = time.monotonic() + 10
    while what not in (said := ask()):
        assert time.monotonic() < bound, f"waited in vain for {what!r}: {said}"
        time.sleep(0.1)
    return said


def refused(*arguments):
    """Runs a command that must fail, and gives what it said."""
    try:
        openstack(*arguments, output_json=False)
    except CommandFailed as failure:
        print(f"ok refused: openstack {' '.join(str(argument) for argument in arguments)}", flush=True)
        return failure.output
    raise AssertionError(f"was not refused: openstack {arguments}")
