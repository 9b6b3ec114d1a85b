"""Errors of this package. Each class says how a command exits and what a gateway answers."""

from __future__ import annotations


class ModelError(Exception):
    """Base of this package's errors. The message is for the user; who shows it puts it into one line."""

    exit_code = 1
    """Exit code of a command that fails with this error: 2 for what the user asked, 1 for what happened."""
    http_status = 503
    """Status of the gateway's answer."""


class InputError(ModelError):
    """Input that cannot be used."""

    exit_code, http_status = 2, 422
