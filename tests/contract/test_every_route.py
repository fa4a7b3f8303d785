"""Every documented route, asked by schemathesis with all its checks: data that the document
allows and data that it does not, with and without the right token.

The application is the whole one. Its engines are one small server, YouTube is the simulator.
Examples are derived from the code, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from simulator.testing import RunningSimulator, running_simulator
from tests import dashboard_fakes as fakes
from tests.dashboard_fakes import FakeEngine
from transcript_service.settings import Settings
from transcript_service.tokens import SCOPES, TokenStore
from transcript_service.web import create_app
from transcript_service.web.openapi import document

WEBHOOK_TOKEN = "t0ken-of-the-webhook"
pytestmark = pytest.mark.hypothesis  # more examples in `make test-all`
EXAMPLES = settings().max_examples // 10
OPERATIONS = [
    (method.upper(), path)
    for path, operations in document()["paths"].items()
    for method in operations
]


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    engine.behave = fakes.valued("4.5")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A state folder that holds a token with all scopes, and the token."""
    folder = tmp_path_factory.mktemp("state")
    return folder, TokenStore(folder / "tokens.json").create("a", SCOPES, timedelta(days=1))[1]


@pytest.fixture(scope="module")
def api(engine: FakeEngine, simulator: RunningSimulator, token: tuple[Path, str]) -> Any:
    """The document as schemathesis reads it, over the application."""
    folder, _ = token
    webhook_token = folder / "webhook-token"
    webhook_token.write_text(WEBHOOK_TOKEN)
    app = create_app(
        Settings(
            state_dir=folder,
            web_concurrency=1,
            prometheus_url=engine.url,
            alertmanager_url=engine.url,
            jaeger_url=engine.url,
            victorialogs_url=engine.url,
            # The check of authentication presents wrong tokens all the time.
            dashboard_auth_failures_per_minute=1_000_000,
            alert_webhook_token_file=webhook_token,
            youtube_resolve_to=simulator.resolve_to,
            youtube_ca_file=simulator.ca_file,
            enable_youtubei=False,
            enable_asr=False,
        )
    )
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    # Its WSGI transport says that it takes gzip, but does not unpack it.
    schema.config.update(headers={"Accept-Encoding": "identity"})
    # Every call brings the right key, and the check of authentication takes it away or presents
    # a wrong one. An input whose only fault is a key that is none would be a right one.
    schema.config.generation.update(with_security_parameters=False)
    return schema


def key_of(operation: dict[str, Any], token: str) -> dict[str, str]:
    """The header that opens an operation, by the scheme that the document names for it."""
    keys = {"token": token, "webhookToken": WEBHOOK_TOKEN}
    schemes = [name for scheme in operation.get("security", [{}])[:1] for name in scheme]
    return {"Authorization": f"Bearer {keys[schemes[0]]}"} if schemes else {}


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_as_the_document_says(
    api: Any,
    simulator: RunningSimulator,
    token: tuple[Path, str],
    method: str,
    path: str,
    mode: GenerationMode,
) -> None:
    load_all_checks()
    operation = api[path][method]
    wrong_is_possible = operation.query or operation.path_parameters or operation.body
    if mode is GenerationMode.NEGATIVE and not wrong_is_possible:
        return
    headers = key_of(document()["paths"][path][method.lower()], token[1])
    videos = [video.id for video in simulator.state.videos() if video.fault is None]

    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def every(case: Any, data: st.DataObject) -> None:
        # A video that exists, or the document's good answers would never be seen; without a
        # fault of its own, because the checks take what YouTube fails at for our failure.
        if mode is GenerationMode.POSITIVE and "video" in case.path_parameters:
            case.path_parameters["video"] = data.draw(st.sampled_from(videos))
        case.call_and_validate(checks=CHECKS.get_all(), headers=headers)

    every()
