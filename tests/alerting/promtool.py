"""Prometheus's own engine, through `promtool`: what a rule makes of scrapes over time."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
MISSING = "NOT CHECKED by Prometheus's own engine: apt-get install prometheus brings promtool"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason=MISSING)


@cache
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Every rule that alerts, by its name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> list[dict[str, Any]]:
    """Every rule that only records, for others to use."""
    return [rule for rule in rules() if "record" in rule]


def log_events(rule: Mapping[str, Any]) -> list[str]:
    """What its annotation says to look for in the logs."""
    return [name.strip() for name in rule["annotations"]["log_event"].split(",")]


def promtool(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)


# Scrapes


@dataclass(frozen=True, slots=True)
class Scrape:
    """What came of asking a target once; `text` is None where nobody answered."""

    job: str
    instance: str
    text: str | None
    at: float = 0  #: when, in seconds since 1970

    @property
    def samples(self) -> Mapping[str, str]:
        """Values by series, as Prometheus stores them: with the target's labels."""
        target = f'instance="{self.instance}",job="{self.job}"'
        found = {f"up{{{target}}}": "0" if self.text is None else "1"}
        for line in (self.text or "").splitlines():
            if line and not line.startswith("#"):
                name, labels, value = parts(line)
                joined = ",".join(filter(None, [labels, target]))
                found[f"{name}{{{joined}}}"] = value
        return found


_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)")


def parts(line: str) -> tuple[str, str, str]:
    """Name, labels and value of a line of the exposition format."""
    match = _LINE.fullmatch(line)
    assert match, f"this is no sample: {line}"
    return match[1], (match[2] or "").rstrip(","), match[3].replace("+Inf", "Inf")


# Rules over time


@dataclass(frozen=True, slots=True)
class Phase:
    """For so many minutes the scrape of each target gave this, once a minute."""

    minutes: int
    scrapes: Sequence[Scrape]


def firing(*phases: Phase, unseen: str = "") -> dict[str, str]:
    """What fires at the end of these phases: each alert's labels and texts, by its name.

    `unseen` is a metric that nobody has scraped.
    """
    minutes = sum(phase.minutes for phase in phases)
    wanted = [
        {"alertname": name, "eval_time": f"{minutes - 1}m", "exp_alerts": []} for name in alerts()
    ]
    series = list(_series(phases, unseen))
    test = {"interval": "1m", "input_series": series, "alert_rule_test": wanted}
    file = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as written:
        json.dump(file, written)  # JSON is YAML, and quicker
        written.flush()
        done = promtool("test", "rules", written.name)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or _UNEXPECTED.search(said), said
    return {match[1]: match[2] for match in _UNEXPECTED.finditer(said)}


#: That none fires is what promtool is told to expect: it shows those that do.
_UNEXPECTED = re.compile(
    r"alertname: (\w+), time: \w+, *\n +exp:\[\], *\n +got:\[\n(.*?)\n +\]", re.DOTALL
)


def _series(phases: Sequence[Phase], unseen: str) -> Iterator[dict[str, str]]:
    found = list(_joined(phases))
    for series in dict.fromkeys(name for samples in found for name in samples):
        if series.startswith(unseen + "{"):
            continue
        values: list[str] = []
        for phase, samples in zip(phases, found, strict=True):
            if series in samples:
                values += [samples[series]] * phase.minutes
            else:  # Prometheus notes that it is gone
                gone = "stale" if values and values[-1] not in ("_", "stale") else "_"
                values += [gone, *["_"] * (phase.minutes - 1)]
        yield {"series": series, "values": " ".join(values)}


def _joined(phases: Sequence[Phase]) -> Iterator[dict[str, str]]:
    """The samples of each phase.

    promtool's clock begins at 0, so the time at which a process started is moved: when a phase
    begins that is the first to show it, the process is as old as it was at that scrape.
    """
    moved: dict[tuple[str, str], str] = {}
    begins = 0
    for phase in phases:
        joined: dict[str, str] = {}
        for scrape in phase.scrapes:
            for series, value in scrape.samples.items():
                if series.startswith("process_start_time_seconds"):
                    start = begins - (scrape.at - float(value))
                    value = moved.setdefault((series, value), f"{start:.3f}")
                joined[series] = value
        yield joined
        begins += phase.minutes * 60
