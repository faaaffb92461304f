"""The schedule of a chaos run: which dose comes when and where, and what breaks when and for how long. Pure.

Everything is drawn from the seed: the same seed, sites and length give the same plan, on any machine.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

DOSES_END = 0.85  # of the time; the last dose comes before the last fault is over
FAULTS_BEGIN = 0.03
FAULTS_END = 0.95
EVERY_S = 8.0  # a new fault, on average

SERVICE = "service"
CUPSD = "cupsd"


class Kind(StrEnum):
    """What breaks. `lasts_s` of a fault is how long it stays so."""

    KILL_SERVICE = "kill-service"  # kill -9
    KILL_AGENT = "kill-agent"
    KILL_CUPSD = "kill-cupsd"
    KILL_ALL = "kill-all"  # service, cupsd and the agent of one site at one moment
    RESTART_SERVICE = "restart-service"  # SIGTERM, and started again
    RESTART_AGENT = "restart-agent"
    RESTART_CUPSD = "restart-cupsd"
    STOP_AGENT = "stop-agent"  # SIGSTOP, then SIGCONT
    LINE_CUT = "line-cut"  # every connection of the site's line is reset, new ones too
    PAPER_OUT = "paper-out"  # until somebody loads paper
    PRINTER_ABORTS = "printer-aborts"  # every job that begins meanwhile
    PRINTER_KILLED = "printer-killed"  # as by a power cut: what it was printing is lost
    PRINTER_SILENT = "printer-silent"  # connections are taken and nothing is answered


_LASTS_S: dict[Kind, tuple[float, float]] = {
    Kind.KILL_SERVICE: (0.5, 8.0),
    Kind.KILL_AGENT: (0.5, 15.0),
    Kind.KILL_CUPSD: (0.5, 10.0),
    Kind.KILL_ALL: (0.5, 8.0),
    Kind.RESTART_SERVICE: (0.0, 2.0),
    Kind.RESTART_AGENT: (0.0, 2.0),
    Kind.RESTART_CUPSD: (0.0, 2.0),
    Kind.STOP_AGENT: (1.0, 25.0),
    Kind.LINE_CUT: (0.5, 30.0),
    Kind.PAPER_OUT: (2.0, 40.0),
    Kind.PRINTER_ABORTS: (1.0, 6.0),
    Kind.PRINTER_KILLED: (0.5, 20.0),
    Kind.PRINTER_SILENT: (1.0, 20.0),
}
_AT_SITE = frozenset({Kind.KILL_AGENT, Kind.KILL_ALL, Kind.RESTART_AGENT, Kind.STOP_AGENT, Kind.LINE_CUT})
_AT_PRINTER = frozenset({Kind.PAPER_OUT, Kind.PRINTER_ABORTS, Kind.PRINTER_KILLED, Kind.PRINTER_SILENT})


@dataclass(frozen=True, slots=True)
class Fault:
    """Seconds since the start. `target` is a site, a printer, `service` or `cupsd`."""

    at_s: float
    kind: Kind
    target: str
    lasts_s: float

    @property
    def end_s(self) -> float:
        return self.at_s + self.lasts_s

    @property
    def parts(self) -> frozenset[str]:
        """What is out of order meanwhile; no other fault touches it before it is whole again."""
        match self.kind:
            case Kind.KILL_ALL:
                return frozenset({SERVICE, CUPSD, f"agent {self.target}"})
            case Kind.KILL_AGENT | Kind.RESTART_AGENT | Kind.STOP_AGENT:
                return frozenset({f"agent {self.target}"})
            case Kind.LINE_CUT:
                return frozenset({f"line {self.target}"})
            case _:
                return frozenset({self.target})


@dataclass(frozen=True, slots=True)
class DosePlan:
    """The dose with this number (from 0) is posted then, for that site."""

    number: int
    at_s: float
    site_id: str


@dataclass(frozen=True, slots=True)
class ChaosPlan:
    """In the order of time. `length_s` is when the last fault is long over; what remains then drains."""

    seed: int
    length_s: float
    doses: tuple[DosePlan, ...]
    faults: tuple[Fault, ...]

    def digest(self) -> str:
        """Return a word that differs where anything of the plan differs."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def make_plan(seed: int, *, doses: int, length_s: float, printers: Mapping[str, Sequence[str]]) -> ChaosPlan:
    """Draw a plan; `printers` are the names of each site's printers, by site.

    Every kind of fault occurs at least once, however short the run is.
    """
    # As text, and apart: more faults do not move the doses.
    dose_chance, fault_chance = random.Random(f"{seed}/doses"), random.Random(f"{seed}/faults")
    moments = sorted(_round(dose_chance.uniform(0.0, DOSES_END * length_s)) for _ in range(doses))
    sites = tuple(printers)
    plans = tuple(DosePlan(number, at_s, dose_chance.choice(sites)) for number, at_s in enumerate(moments))
    return ChaosPlan(seed, length_s, plans, _draw_faults(fault_chance, length_s, printers))


def _draw_faults(chance: random.Random, length_s: float, printers: Mapping[str, Sequence[str]]) -> tuple[Fault, ...]:
    """One fault in the first half of each slot of time; one that would still last when its part is hit again is cut."""
    begin_s, end_s = FAULTS_BEGIN * length_s, FAULTS_END * length_s
    kinds = list(Kind)
    kinds += chance.choices(list(Kind), k=max(0, int((end_s - begin_s) / EVERY_S) - len(kinds)))
    chance.shuffle(kinds)
    slot_s = (end_s - begin_s) / len(kinds)
    faults: list[Fault] = []
    for number, kind in enumerate(kinds):
        at_s = _round(begin_s + (number + chance.uniform(0.0, 0.5)) * slot_s)
        lasts_s = _round(min(chance.uniform(*_LASTS_S[kind]), end_s - at_s))
        choices = [Fault(at_s, kind, target, lasts_s) for target in _targets(kind, printers)]
        whole = [one for one in choices if not any(old.end_s > at_s and old.parts & one.parts for old in faults)]
        fault = chance.choice(whole or choices)
        faults = [_cut(old, at_s) if old.end_s > at_s and old.parts & fault.parts else old for old in faults]
        faults.append(fault)
    return tuple(faults)


def _targets(kind: Kind, printers: Mapping[str, Sequence[str]]) -> list[str]:
    if kind in _AT_SITE:
        return list(printers)
    if kind in _AT_PRINTER:
        return [name for names in printers.values() for name in names]
    return [CUPSD if kind in (Kind.KILL_CUPSD, Kind.RESTART_CUPSD) else SERVICE]


def _cut(fault: Fault, at_s: float) -> Fault:
    return replace(fault, lasts_s=_round(at_s - fault.at_s))


def _round(seconds: float) -> float:
    return round(seconds, 3)
