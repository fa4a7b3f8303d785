"""What the pages say exists: variables, make targets, files behind links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stack.layout import CHECKOUT
from transcript_service.settings import Settings
from transcript_service.telemetry.vocabulary import CALLER_ERRORS, ERROR_TYPES, outcome_of
from transcript_service.web.transcripts import STATUS

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
    *sorted((CHECKOUT / "docs/decisions").glob("*.md")),
]
# Read by somebody else than the service: the SDK, the launcher, compose, make, programs.
NOT_SETTINGS = re.compile(
    r"OTEL_\w+|STACK_\w+|\w+_PORT|TEST_COMPOSE|PYTHON|GO\w+|PATH|CI|TZ|BASE_PORTS|HTTPS?_PROXY|"
    r"SSL_CERT_FILE|REQUESTS_CA_BUNDLE|COMPOSE_\w+|ALERTS|SCRIPT_NAME|JOBS?_\w+|PREF|CONSENT"
)


def names(pages: list[Path]) -> list[object]:
    return [pytest.param(page, id=str(page.relative_to(CHECKOUT))) for page in pages]


@pytest.mark.parametrize("page", names(PAGES))
def test_every_variable_a_page_names_is_a_setting(page: Path) -> None:
    known = {name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)[`=]", page.read_text()))
    assert {name for name in named - known if not NOT_SETTINGS.fullmatch(name)} == set()


@pytest.mark.parametrize("page", names(PAGES))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        target for target in targets if "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", names(PAGES))
def test_every_test_a_page_names_is_there(page: Path) -> None:
    for name, function in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()):
        file = CHECKOUT / name
        assert file.is_file(), name
        assert not function or f"def {function}(" in file.read_text(), function


def test_every_threat_has_its_test() -> None:
    page = (CHECKOUT / "docs/security.md").read_text()
    rows = re.findall(r"^\|.*\| test \|\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert len(rows) == 3  # what listens, threats to the service, what answers may make us do
    threats = "".join(rows).splitlines()
    assert [row for row in threats if "`tests/" not in row.split(" | ")[-1]] == []


@pytest.mark.parametrize("page", names(PAGES))
def test_every_make_target_a_page_names_is_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_the_table_of_refusals_is_that_of_the_service() -> None:
    page = (CHECKOUT / "docs/transcripts.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\w+) \|", page, re.MULTILINE)
    told = {code: (int(status), kind) for code, status, kind in rows}
    kinds = {"no_captions": "answer", "blocked": "block"}
    expected = {
        code: (
            STATUS[code],
            "request" if code in CALLER_ERRORS else kinds.get(outcome_of(code), "fault"),
        )
        for code in ERROR_TYPES
    }
    assert told == expected
