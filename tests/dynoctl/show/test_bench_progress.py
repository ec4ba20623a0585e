"""The live rate: that of the phase, from its beginning."""

from __future__ import annotations

from dynoctl.show.bench.progress import Rate


def test_the_rate_counts_from_the_beginning_of_the_phase() -> None:
    now_s = [100.0]
    rate = Rate(lambda: now_s[0])
    said = []
    # Ten answers come at once after five seconds; by a clock that begins with the first of them it is 10 a second.
    for at_s, warming, done, tokens in [
        (100.0, True, 0, 0), (102.0, True, 4, 0), (103.0, False, 0, 0), (107.0, False, 0, 0), (108.0, False, 10, 1500)
    ]:  # fmt: skip
        now_s[0] = at_s
        said.append(rate.words(warming, done, tokens))
    assert said == ["", "2.00 req/s", "", "", "2.00 req/s, 300.0 tok/s"]
