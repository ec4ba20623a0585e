"""What stands behind `--`: words for the tool, looked through before it gets them.

In: those words. Out: `UsageError` where one of them sets what dynoctl sets itself: the tool would measure another
load than the record says and the gate judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dynoctl.errors import UsageError

# Our own flag, and what aiperf 0.13, genai-perf 0.0.16 and its perf_analyzer call the same.
OURS = {
    "--url": "--url",
    "--model": "--model --model-names",
    "--tokenizer": "--tokenizer",
    "--concurrency": "--concurrency --concurrency-range --session-concurrency --prefill-concurrency "
    "--concurrency-ramp-duration --concurrency-min --concurrency-max --concurrency-steps",
    "--request-rate": "--request-rate --request-rate-range --request-rate-mode --arrival-pattern "
    "--request-rate-series --request-rate-ramp-duration --arrival-smoothness --burstiness --vllm-burstiness "
    "--user-centric-rate --num-users",
    "--requests": "--request-count --num-requests --num-sessions --num-conversations --conversation-num "
    "--benchmark-duration --measurement-interval --num-dataset-entries --num-prompts",
    "--warmup": "--warmup-request-count --num-warmup-requests --num-warmup-sessions --warmup-duration "
    "--warmup-concurrency --warmup-request-rate --warmup-arrival-pattern --agentic-cache-warmup-duration",
    "--input-tokens": "--synthetic-input-tokens-mean --prompt-input-tokens-mean --isl --isl-min --isl-max "
    "--isl-steps --isl-osl-pairs --sequence-distribution --seq-dist --random-range-ratio",
    "--input-stddev": "--synthetic-input-tokens-stddev --prompt-input-tokens-stddev --isl-stddev",
    "--output-tokens": "--output-tokens-mean --prompt-output-tokens-mean --osl "
    "--output-tokens-mean-deterministic --osl-min --osl-max --osl-steps",
    "--output-stddev": "--output-tokens-stddev --prompt-output-tokens-stddev --osl-stddev",
    "--seed": "--random-seed",
    "--turns": "--session-turns-mean --conversation-turn-mean --session-turns-stddev --conversation-turn-stddev "
    "--session-turn-delay-mean --conversation-turn-delay-mean",
    "--shared-prefix": "--prefix-prompt-length --prompt-prefix-length --shared-system-prompt-length "
    "--system-prompt --system-prompt-file --user-context-prompt-length",
    "--prefixes": "--num-prefix-prompts --prompt-prefix-pool-size --prefix-prompt-pool-size",
    "--trace": "--input-file --custom-dataset-type --fixed-schedule --public-dataset --dataset-name "
    "--hf-weka-dataset",
    "--trace-speed": "--replay-speedup --synthesis-speedup-ratio",
    "--slo": "--goodput",
    "--repeat": "--num-profile-runs",
    "--output": "--artifact-dir --output-artifact-dir",
}
# What sets all of it at once, so that no flag of ours is the same.
WHOLE = (
    "--config --file --override-config --scenario --sweep-type --sweep-range --sweep-list --search-space "
    "--search-recipe --cache-bust --dataset-sampling-strategy"
)
SHORT = {"-u": "--url", "-m": "--model", "-p": "--requests", "-f": None}
_FLAGS: dict[str, str | None] = {
    **{word: ours for ours, words in OURS.items() for word in words.split()},
    **dict.fromkeys(WHOLE.split(), None),
}


def refuse(words: Iterable[str]) -> None:
    """Raises UsageError for the first word that changes the load."""
    for word, ours in _found(words):
        same = f"the same with dynoctl's own {ours}, before the --"
        raise UsageError(
            f"{word} behind -- would change what is measured, and neither record nor gate would know",
            next=same if ours is not None else "the same with dynoctl's own flags: dynoctl bench run --help",
        )


def _found(words: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name in _FLAGS:
            yield name, _FLAGS[name]
        elif name.startswith("--") and len(name) > 3:
            # genai-perf takes the beginning of an option for the whole.
            whole = next((flag for flag in _FLAGS if flag.startswith(name)), None)
            if whole is not None:
                yield name, _FLAGS[whole]
        elif name[:2] in SHORT and not name.startswith("--"):
            yield name[:2], SHORT[name[:2]]
