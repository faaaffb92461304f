"""How many further papers one may ask for."""

from __future__ import annotations

import pytest

from printsvc.errors import StateError
from printsvc.printing.copies import CopyLimits, CopyRules, refuse_copy


@pytest.mark.parametrize(
    ("made", "today", "code"),
    [(0, 0, None), (1, 49, None), (2, 0, "copy_limit"), (9, 99, "copy_limit"), (0, 50, "copy_limit_day")],
)
def test_an_operator_may_ask_for_two_of_a_certificate_and_fifty_a_day(made: int, today: int, code: str | None) -> None:
    limits = CopyRules().operator
    if code is None:
        refuse_copy(limits, made=made, asked_today=today)
        return
    with pytest.raises(StateError) as caught:
        refuse_copy(limits, made=made, asked_today=today)
    assert caught.value.code == code
    assert caught.value.vi != caught.value.en


def test_an_admin_may_ask_for_more_and_as_often_as_it_takes() -> None:
    refuse_copy(CopyRules().admin, made=9, asked_today=10**6)
    with pytest.raises(StateError):
        refuse_copy(CopyRules().admin, made=10, asked_today=0)


def test_none_at_all() -> None:
    with pytest.raises(StateError):
        refuse_copy(CopyLimits(0, 0), made=0, asked_today=0)
