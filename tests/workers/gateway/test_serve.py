"""The sockets that a gateway listens on, taken before anything else is started."""

from __future__ import annotations

import socket

import pytest

from workers.gateway.serve import CannotListen, listen_on


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            CannotListen, match=f"^cannot listen on 127.0.0.1:{port}: the port is taken; choose"
        ) as told:
            listen_on("127.0.0.1", port)
    assert told.value.exit_code == 1


@pytest.mark.parametrize(("host", "reason"), [("192.0.2.1", "annot assign"), ("no-such-host.invalid", ".")])
def test_an_address_of_another_machine_is_refused(host: str, reason: str) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:8765: .*{reason}"):
        listen_on(host, 8765)


def test_all_addresses_of_a_name_have_one_port() -> None:
    listeners = listen_on("localhost", 0)
    assert listeners and len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()
