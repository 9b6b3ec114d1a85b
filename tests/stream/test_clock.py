from __future__ import annotations

import pytest

from stream.clock import Pacer, VirtualClock


@pytest.mark.parametrize(("speed", "expected"), [(1.0, 10.0), (4.0, 2.5), (0.5, 20.0)])
async def test_media_flows_at_its_speed(speed: float, expected: float) -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, speed)
    for second in range(11):
        assert await pacer.wait_until(second) == 0
    assert clock.now() == pytest.approx(expected)


async def test_a_slow_consumer_is_told_how_late_it_is() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, 1.0)
    await pacer.wait_until(0)
    await clock.sleep(5)
    assert await pacer.wait_until(2) == pytest.approx(3)
    assert await pacer.wait_until(6) == 0


async def test_max_speed_never_waits() -> None:
    clock = VirtualClock()
    pacer = Pacer(clock, None)
    assert await pacer.wait_until(1e6) == 0 and clock.now() == 0
