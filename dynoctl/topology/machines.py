"""Where a cluster runs: nodes, how they are reached over SSH, and what is installed on them.

In: nothing. Out: frozen models, one a section of the file; the descriptions are the reference.
"""

from typing import Annotated

from msgspec import Meta

from dynoctl.topology.part import Part
from dynoctl.topology.scalars import Count, Host, Path, Port, Seconds, User
from dynoctl.topology.secret import Env, Url

LOCAL = "local"


class SshOverride(Part, frozen=True):
    """How one node is reached, where it differs from `ssh` at the top."""

    user: Annotated[
        User | None, Meta(description="Who logs in; else `~/.ssh/config` decides, else your own name.")
    ] = None
    port: Annotated[
        Port | None, Meta(description="TCP port of sshd; else `~/.ssh/config` decides, else 22.")
    ] = None
    key: Annotated[
        Path | None,
        Meta(description="Private key, on this machine; else `~/.ssh/config` and the agent decide."),
    ] = None


class Ssh(SshOverride, frozen=True):
    """How nodes are reached. `~/.ssh/config`, the agent and ProxyJump are honoured."""

    connect_timeout_s: Annotated[
        Seconds, Meta(description="How long one attempt to connect may take, in seconds.")
    ] = 8.0


class Node(Part, frozen=True):
    """One machine."""

    host: Annotated[
        Host, Meta(description="What SSH dials, a name or an address; `local` is this machine, without SSH.")
    ] = LOCAL
    address: Annotated[Host | None, Meta(description="What the other nodes dial; else `host`.")] = None
    gpus: Annotated[
        Count | None, Meta(description="How many GPUs it has; where absent, that is found out on the node.")
    ] = None
    ssh: Annotated[SshOverride, Meta(description="How this node is reached, where it differs.")] = (
        SshOverride()
    )
    env: Annotated[Env, Meta(description="Environment of every process on this node.")] = Env()
    python: Annotated[
        Path | None,
        Meta(description="An existing environment to use on this node; else `python` at the top."),
    ] = None
    state_dir: Annotated[
        Path | None, Meta(description="Folder of everything that dynoctl keeps here; else that at the top.")
    ] = None


class Install(Part, frozen=True):
    """How the Python environment of a node is built, where the topology names no existing one."""

    wheelhouse: Annotated[
        Path | None,
        Meta(description="A folder of wheels on this machine, sent to the nodes; no index is asked then."),
    ] = None
    index_url: Annotated[
        Url | None, Meta(description="Package index to install from; else pip's own settings decide.")
    ] = None
    extra_index_url: Annotated[
        Url | None,
        Meta(description="A second index, such as that of PyTorch's CPU builds, which `device: cpu` needs."),
    ] = None
