"""The command line; a module a group of commands."""

import os
import signal


def main() -> None:
    """Entry point of the console script. Ctrl-C ends it without a traceback while its modules are imported, too."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else Ctrl-C is ignored, as in a shell's background
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # an exception could be caught by what is imported
    from workers.cli.app import command_line

    run = command_line()
    signal.signal(signal.SIGINT, handler)
    run()
