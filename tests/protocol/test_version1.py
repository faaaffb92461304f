"""The wire protocol of the release before, held against this one's: frozen models and messages as they were sent."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from spooler import protocol

HERE = Path(__file__).parent


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("printsvc_protocol_version1", HERE / "version1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


version1 = _load()
NAMES = sorted(path.stem for path in (HERE / "v1").glob("*.json"))


def models(module: Any) -> dict[str, type[BaseModel]]:
    return {
        name: one
        for name, one in vars(module).items()
        if inspect.isclass(one) and issubclass(one, module.Message) and one is not module.Message
    }


def golden(name: str) -> Any:
    return json.loads((HERE / "v1" / f"{name}.json").read_text())


def contains(new: Any, old: Any) -> bool:
    """Return whether `new` says all that `old` says; more fields may stand beside."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and contains(new[key], old[key]) for key in old)
    if isinstance(old, list):
        return isinstance(new, list) and len(new) == len(old) and all(map(contains, new, old))
    return bool(new == old)


def from_the_future(message: Any) -> Any:
    """Return the message with a field that nobody knows in every object of it."""
    if isinstance(message, dict):
        return {name: from_the_future(value) for name, value in message.items()} | {"from_the_future": {"a": [1, None]}}
    if isinstance(message, list):
        return [from_the_future(one) for one in message]
    return message


def test_the_frozen_messages_are_all_that_version_1_had() -> None:
    spoken = {"EnrollRequest", "EnrollAnswer", "LeaseRequest", "LeaseAnswer", "ReportRequest", "ReportAnswer"}
    assert set(NAMES) == spoken
    for name in NAMES:
        assert json.loads(models(version1)[name].model_validate(golden(name)).model_dump_json()) == golden(name)
        assert golden(name)["protocol"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_this_release_understands_every_word_of_version_1(name: str) -> None:
    understood = models(protocol)[name].model_validate_json(json.dumps(golden(name)))
    assert contains(json.loads(understood.model_dump_json()), golden(name))


@pytest.mark.parametrize("name", NAMES)
def test_version_1_understands_what_this_release_sends(name: str) -> None:
    sent = models(protocol)[name].model_validate(golden(name)).model_dump_json()
    heard = models(version1)[name].model_validate_json(sent)
    assert json.loads(heard.model_dump_json()) == golden(name)


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_a_newer_side_are_passed_over_at_every_depth(name: str) -> None:
    understood = models(protocol)[name].model_validate_json(json.dumps(from_the_future(golden(name))))
    assert understood == models(protocol)[name].model_validate_json(json.dumps(golden(name)))


@pytest.mark.parametrize("name", sorted(models(version1)))
def test_no_field_of_version_1_is_gone_and_none_more_is_needed(name: str) -> None:
    """A field that is added has a default: who is older does not send it."""
    old, new = models(version1)[name].model_fields, models(protocol)[name].model_fields
    assert old.keys() <= new.keys()
    assert {field for field, about in new.items() if about.is_required()} <= {
        field for field, about in old.items() if about.is_required()
    }
    for field, about in old.items():
        if not about.is_required() and field != "protocol":
            assert new[field].get_default(call_default_factory=True) == about.get_default(call_default_factory=True)


def test_every_word_of_version_1_means_the_same() -> None:
    for name in ("EventKind", "Outcome"):
        old, new = getattr(version1, name), getattr(protocol, name)
        assert {one.name: one.value for one in old}.items() <= {one.name: one.value for one in new}.items()
    job, token = protocol.JobId("5f1c2e"), 3
    assert protocol.attempt_id(job, token, 2) == version1.attempt_id(job, token, 2) == "ps-5f1c2e-3-2"


def _words(annotation: Any) -> list[type[Enum]]:
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return [annotation]
    return [word for part in typing.get_args(annotation) for word in _words(part)]


SPOKEN = [
    (name, field) for name, model in models(protocol).items() for field, about in model.model_fields.items()
    if _words(about.annotation)
]  # fmt: skip


@pytest.mark.parametrize(("name", "field"), SPOKEN)
def test_a_word_that_only_a_newer_side_knows_does_not_spoil_the_message(name: str, field: str) -> None:
    """One odd event must not make a whole report unreadable: the journal behind it would never arrive."""
    model = models(protocol)[name]
    about = model.model_fields[field]
    holder = model.__pydantic_validator__.validate_assignment(model.model_construct(), field, "word-of-tomorrow")
    told = holder[0][field] if isinstance(holder, tuple) else getattr(holder, field)
    assert told == "word-of-tomorrow"
    for word in _words(about.annotation):
        for known in word:
            checked = model.__pydantic_validator__.validate_assignment(model.model_construct(), field, known.value)
            assert isinstance(checked[0][field] if isinstance(checked, tuple) else getattr(checked, field), word)


def test_the_words_are_found_at_all() -> None:
    assert ("Event", "kind") in SPOKEN
    assert ("EventResult", "outcome") in SPOKEN
