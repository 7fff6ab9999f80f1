"""A server that fails again and again is left alone for a while."""

import pytest

from kdpo_daemon.serving.circuit import Circuit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    """Opens after three failures, for ten seconds."""
    return Circuit(3, 10.0, clock)


def fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        circuit.went(well=False)


def test_it_opens_after_failures_in_a_row(circuit: Circuit) -> None:
    fail(circuit, 2)
    assert circuit.wait_s() == 0

    fail(circuit, 1)

    assert circuit.wait_s() == 10.0


def test_an_answer_in_between_starts_the_count_again(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.went(well=True)
    fail(circuit, 2)

    assert circuit.wait_s() == 0


def test_after_the_pause_one_tries_and_the_others_wait(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10

    assert (circuit.wait_s(), circuit.wait_s()) == (0, 10.0)


def test_a_try_that_goes_well_closes_it(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    circuit.wait_s()
    circuit.went(well=True)

    assert (circuit.wait_s(), circuit.wait_s()) == (0, 0)


def test_a_try_that_fails_opens_it_again(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    circuit.wait_s()
    clock.now += 4
    fail(circuit, 1)

    assert circuit.wait_s() == 10.0


def test_a_try_that_never_ends_does_not_close_it_for_ever(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 10
    circuit.wait_s()
    clock.now += 10

    assert circuit.wait_s() == 0
