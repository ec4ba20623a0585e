"""Prompts that a processor in another process makes.

In: the body of a request. Out: its prompts, from the first processor that answers; each is asked once.
"""

from __future__ import annotations

from typing import Literal

from dyno_runtime.bus.base import CallFailed
from dyno_runtime.openai.errors import ApiError
from dyno_runtime.roles.base import Surroundings
from dyno_runtime.wire.messages import Failure, Prepare, Prepared, Prompt, Rejected

PREPARE_S = 10.0
MAX_ATTEMPTS = 3
_ELSEWHERE = ("peer_lost", "draining", "not_here", "not_ready", "overloaded", "timeout")


async def prepared_elsewhere(
    around: Surroundings, kind: Literal["chat", "completion"], body: bytes
) -> list[Prompt]:
    """See the module. Raises ApiError where the request is refused, CallFailed where nobody could look at it."""
    processors = around.members.view.ready("processor")
    around.rng.shuffle(processors)
    problem = CallFailed(Failure("no_worker", "there is no processor that could take the request"))
    for processor in processors[:MAX_ATTEMPTS]:
        try:
            answer = await around.peers.ask(processor.stream, Prepare(kind, body), PREPARE_S)
        except CallFailed as error:
            if error.failure.code not in _ELSEWHERE:
                raise
            problem = error
            continue
        if isinstance(answer, Prepared):
            return answer.prompts
        if isinstance(answer, Rejected):
            raise ApiError(answer.status, answer.message, param=answer.param, code=answer.code)
    raise problem
