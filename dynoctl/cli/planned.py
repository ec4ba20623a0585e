"""What `up` and `plan` begin with: a look at every node, and the plan that follows from it.

In: a session. Out: the observation and the plan. Nothing is changed.
"""

from __future__ import annotations

from dynoctl.cli.nodes import refuse_unreachable
from dynoctl.cli.session import Session
from dynoctl.plan.observed import Observed
from dynoctl.plan.steps import Plan


def planned(session: Session, *, yes: bool = False) -> tuple[Observed, Plan]:
    """The plan, made from a thorough look where it starts something; a cluster that runs is spared the costlier
    questions. One that was never brought up from here is asked them in the first place.

    Raises:
        NodeError, DynoctlError: a node did not answer.
        Blocked: what was seen stands in the way.
    """
    target = session.target
    if target.recalled:
        keys = ", ".join(argument.partition("=")[0] for argument in target.recalled)
        session.terminal.say(f"{target.name}: with --set {keys}, as in its last up from {target.file}")
    thorough = target.before is None
    observed = session.look(thorough=thorough)
    refuse_unreachable(session, observed, yes=yes)
    plan = session.plan_up(observed)
    if plan.steps and not thorough:
        observed = session.look(thorough=True)
        refuse_unreachable(session, observed, yes=yes)
        plan = session.plan_up(observed)
    return observed, plan
