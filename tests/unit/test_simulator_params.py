"""The protobuf params of the panel calls are those that recorded pages hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import params
from simulator.model import TrackKind

RECORDED_TRANSCRIPT = (
    "CgtHSkxseGpfZHRxOBIOQ2dBU0FtVnVHZ0ElM0QYASozZW5nYWdlbWVudC1wYW5lbC1zZWFyY2hhYmxlLXRyYW5zY3JpcHQt"
    "c2VhcmNoLXBhbmVsMAE4AUAB"
)


def test_transcript_params_are_byte_for_byte_the_recorded_ones() -> None:
    assert params.transcript_params("GJLlxj_dtq8", "en", "manual") == RECORDED_TRANSCRIPT


def test_panel_params_are_byte_for_byte_the_reported_ones() -> None:
    assert params.panel_params("dQw4w9WgXcQ") == "qgkPCgtkUXc0dzlXZ1hjURgB"


@pytest.mark.parametrize("kind", ["manual", "asr"])
@pytest.mark.parametrize("lang", ["en", "zh-Hans", "pt-BR"])
def test_params_are_read_back(lang: str, kind: TrackKind) -> None:
    text = params.transcript_params("ValvSE_cjzM", lang, kind)
    assert params.read_transcript_params(text) == ("ValvSE_cjzM", lang, kind, "")
    assert params.read_panel_params(params.panel_params("ValvSE_cjzM")) == "ValvSE_cjzM"


def test_the_two_fields_that_were_enough_before_2025_still_name_a_video() -> None:
    # field 1 only: "ValvSE_cjzM"
    assert params.read_transcript_params("CgtWYWx2U0VfY2p6TQ==") == (
        "ValvSE_cjzM",
        "",
        "manual",
        "",
    )


@given(st.one_of(st.text(max_size=80), st.binary(max_size=60).map(lambda b: b.hex())))
def test_nonsense_is_none_and_never_an_error(text: str) -> None:
    for read in (params.read_transcript_params, params.read_panel_params):
        found = read(text)
        assert found is None or isinstance(found, str | tuple)
