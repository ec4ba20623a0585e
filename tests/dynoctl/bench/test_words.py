"""Words behind `--`, and keys: what is refused, and what is never shown."""

from __future__ import annotations

import pytest

from dynoctl.bench.foreign import OURS, WHOLE, refuse
from dynoctl.bench.secrets import Secrets, shown
from dynoctl.errors import UsageError

KEY = "sk-0123456789"


@pytest.mark.parametrize(
    ("typed", "word", "ours"),
    [
        ("--ui simple --concurrency 5", "--concurrency", "--concurrency"),
        ("--request_count=7", "--request-count", "--requests"),
        ("--num-requests 7", "--num-requests", "--requests"),
        ("--conc 5", "--conc", "--concurrency"),  # genai-perf takes that for the whole
        ("-u h:1", "-u", "--url"),
        ("-uh:1", "-u", "--url"),
        ("--num-warmup-requests 0", "--num-warmup-requests", "--warmup"),
        ("--seq-dist 128,150:100", "--seq-dist", "--input-tokens"),
        ("--random-range-ratio 0.5", "--random-range-ratio", "--input-tokens"),
        ("--session-turns-stddev 2", "--session-turns-stddev", "--turns"),
        ("--burstiness 9", "--burstiness", "--request-rate"),
        ("-- --concurrency-range 5", "--concurrency-range", "--concurrency"),  # on to perf_analyzer
    ],
)
def test_words_that_set_the_load(typed: str, word: str, ours: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse(typed.split())
    assert caught.value.message == (
        f"{word} behind -- would change what is measured, and neither record nor gate would know"
    )
    assert caught.value.next == f"the same with dynoctl's own {ours}, before the --"


def test_every_word_is_refused_and_others_are_not() -> None:
    for word in [*" ".join(OURS.values()).split(), *WHOLE.split()]:
        with pytest.raises(UsageError):
            refuse([word, "1"])
    refuse(
        [
            "--ui",
            "simple",
            "--export-level",
            "records",
            "--extra-inputs",
            "temperature:0",
            "-v",
            "--api-key",
            "x",
        ]
    )
    refuse(
        ["--endpoint", "v1/x", "--header", "a: b", "-H", "a:b", "--tokenizer-trust-remote-code", "--verbose"]
    )


@pytest.mark.parametrize(
    ("typed", "safe"),
    [
        (["--api-key", KEY, "-c", "1"], ["--api-key", "***", "-c", "1"]),
        ([f"--api-key={KEY}"], ["--api-key=***"]),
        (["--tool-arg=--api-key", f"--tool-arg={KEY}"], ["--tool-arg=--api-key", "--tool-arg=***"]),
        (["--tool-arg", "--api-key", "--tool-arg", KEY], ["--tool-arg", "--api-key", "--tool-arg", "***"]),
        (["--header", f"Authorization: Bearer {KEY}"], ["--header", "Authorization: ***"]),
        (["-H", f"X-Api:{KEY}"], ["-H", "X-Api:***"]),
        ([f"-HX-Api:{KEY}"], ["-HX-Api:***"]),
        ([f"--header=X: {KEY}"], ["--header=X: ***"]),
        (
            ["-H", "Accept: a", f"X-Api: {KEY}", "--ui", "none"],
            ["-H", "Accept: ***", "X-Api: ***", "--ui", "none"],
        ),
        (["-H", f'{{"X-Api": "Bearer {KEY}"}}'], ["-H", "***"]),
        (["--extra-inputs", f"api_key:{KEY}"], ["--extra-inputs", "api_key:***"]),
        ([f"http://me:{KEY}@h:1/v1"], ["http://***@h:1/v1"]),
        (["--extra-inputs", "max_tokens:5"], ["--extra-inputs", "max_tokens:5"]),
        (["--tokenizer", "/m", "--input-tokens", "5"], ["--tokenizer", "/m", "--input-tokens", "5"]),
    ],
)
def test_keys_are_not_shown(typed: list[str], safe: list[str]) -> None:
    assert shown(typed) == safe
    text = f'curl -H "Authorization: Bearer {KEY}" http://me:{KEY}@h:1 "max_tokens" 5'
    masked = Secrets.of(typed).masked(text)
    assert (KEY in masked) == (typed == safe)
    assert masked.endswith('"max_tokens" 5')


def test_a_line_that_was_cut_in_a_key() -> None:
    assert Secrets.of(["--api-key", KEY]).masked_line(f"{KEY} x sk-01234") == "*** x ***"


def test_a_short_key_spoils_nothing_else() -> None:
    secrets = Secrets.of(["--api-key", "max"])
    assert secrets.masked('{"key": "max", "max_tokens": 5}') == '{"key": "***", "max_tokens": 5}'
    assert Secrets.of(["--api-key", "12345678"]).masked("[12345678]") == "[12345678]"
    assert Secrets.of(["--api-key", 'a"bcdefgh']).masked('{"key": "a\\"bcdefgh"}') == '{"key": "***"}'
