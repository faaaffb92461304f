"""The canonical form against one that is put in order by hand (script/vectors), and what is not brought into it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import divoc

from printsvc.credential.limits import MAX_LINKED_NODES, MAX_LINKED_SIBLINGS
from printsvc.credential.linkeddata import (
    SCHEMA,
    VAC,
    canonical_credential,
    check_context,
    check_tree,
    is_absolute_name,
    read_graph,
)
from printsvc.errors import CodeError

LITERALS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(name=LITERALS, product=LITERALS, street=LITERALS, dose=st.integers(0, 99), total=st.integers(0, 99))
def test_any_values(name: str, product: str, street: str, dose: int, total: int) -> None:
    credential = divoc.make_credential(vaccine=product, dose=dose, totalDoses=total)
    credential["credentialSubject"]["name"] = name
    credential["evidence"][0]["facility"]["address"]["streetAddress"] = street + "2"
    quads = canonical_credential(credential)
    assert quads == divoc.quads_of(credential)
    graph = read_graph(quads)
    (person,) = graph.of_type(SCHEMA + "Person")
    assert graph.one(person, SCHEMA + "name") == name
    (shot,) = graph.of_type(VAC + "Vaccination")
    assert set(graph.values(shot, SCHEMA + "doseValue")) == {str(dose), str(total)}
    assert product in graph.values(shot, SCHEMA + "id")


@pytest.mark.parametrize("control", ["\n", "\r", "\t", "\x0b", "\x85", "\\", '"', "\\n", "\x7f", "\u2028", "😀"])
def test_characters_that_are_written_in_another_way(control: str) -> None:
    credential = divoc.make_credential()
    credential["credentialSubject"]["name"] = f"A{control}B"
    graph = read_graph(canonical_credential(credential))
    assert graph.one(graph.of_type(SCHEMA + "Person")[0], SCHEMA + "name") == f"A{control}B"


def test_every_deployment_has_the_vocabulary_under_its_address() -> None:
    for address in ("https://cowin.gov.in/", "https://divoc.lgcc.gov.lk/", "https://divoc.prod/vaccine/"):
        for version in ("v1", "v2"):
            check_context([divoc.CONTEXTS[0], f"{address}credentials/vaccination/{version}"])


@pytest.mark.parametrize(
    "context",
    [
        None,
        "https://www.w3.org/2018/credentials/v1",
        [],
        divoc.CONTEXTS[::-1],
        [divoc.CONTEXTS[0], 5],
        [divoc.CONTEXTS[0], {"name": "https://schema.org/name"}],
        [divoc.CONTEXTS[0], "http://cowin.gov.in/credentials/vaccination/v1"],
        [divoc.CONTEXTS[0], "https://cowin.gov.in/credentials/vaccination/v1?x"],
        [divoc.CONTEXTS[0], "https://cowin.gov.in/credentials/test/v1"],
    ],
)
def test_other_vocabularies_are_refused(context: Any) -> None:
    with pytest.raises(CodeError):
        check_context(context)


def test_what_would_cost_too_much_is_refused() -> None:
    check_tree({"a": [{"b": 1}] * MAX_LINKED_SIBLINGS, "c": list(range(100))})
    with pytest.raises(CodeError, match="too long"):
        check_tree({"a": [{}] * (MAX_LINKED_SIBLINGS + 1)})
    with pytest.raises(CodeError, match="too many"):
        check_tree({str(number): {} for number in range(MAX_LINKED_NODES)})
    with pytest.raises(CodeError, match="keywords"):
        check_tree({"@context": [], "a": {"@type": "x"}})


@pytest.mark.parametrize("name", ["did:india", "https://a.example/b?c#d", "urn:x:é"])
def test_absolute_names(name: str) -> None:
    assert is_absolute_name(name)


@pytest.mark.parametrize(
    "name", ["", "a", "/a", "_:b0", ":a", "a b:c", "a:b c", "a:<b>", 'a:"', "a:\n", "a:" + "b" * 500]
)
def test_other_names(name: str) -> None:
    assert not is_absolute_name(name)


@pytest.mark.parametrize("quads", ["a", "_:a <b> .\n", '_:a <b> "c\n', "<a> <b> <c> <d> <e> .\n"])
def test_quads_that_are_none(quads: str) -> None:
    with pytest.raises(CodeError):
        read_graph(quads)


@pytest.mark.parametrize("change", [{"type": 5}, {"credentialSubject": {"id": 5}}, {"evidence": [{"type": [{}]}]}])
def test_what_the_library_cannot_take_is_ours_to_say(change: dict[str, Any]) -> None:
    with pytest.raises(CodeError) as caught:
        canonical_credential(divoc.make_credential() | change)
    assert caught.value.step == "structure"
