"""Where a cluster runs: nodes, how they are reached over SSH, and what is installed on them.

In: plain values. Out: frozen models, one a section of the file.
"""

from __future__ import annotations

from pydantic import Field

from dynoctl.topology.part import Part
from dynoctl.topology.scalars import Count, Host, Path, Port, Positive, Seconds, Text, User
from dynoctl.topology.secret import Env, UrlText

LOCAL = "local"


class SshOverride(Part):
    """How one node is reached, where it differs from `ssh` at the top."""

    user: User | None = Field(
        default=None, description="The user to log in as; else ~/.ssh/config decides, else your own name."
    )
    port: Port | None = Field(
        default=None, description="The TCP port of sshd; else ~/.ssh/config decides, else 22."
    )
    key: Path | None = Field(
        default=None, description="The private key, on this machine; else ~/.ssh/config and the agent decide."
    )


class Ssh(SshOverride):
    """How nodes are reached. ~/.ssh/config, the agent and ProxyJump are honoured."""

    connect_timeout_s: Seconds = Field(
        default=10.0, description="How long one attempt to connect may take, in seconds."
    )
    window: Positive = Field(
        default=32, le=1024, description="With how many nodes dynoctl speaks at the same time, at most."
    )


class Node(Part):
    """One machine."""

    host: Host = Field(
        default=LOCAL,
        description="What SSH dials: a name or an address. 'local' is this machine, without SSH.",
    )
    address: Host | None = Field(default=None, description="What the other nodes dial; else the host.")
    gpus: Count | None = Field(
        default=None, description="How many GPUs the node has; where absent, the node is asked."
    )
    ssh: SshOverride = Field(
        default_factory=SshOverride.model_construct, description="How this node is reached, where it differs."
    )
    env: Env = Field(default_factory=dict, description="Environment of every process on this node.")
    python: Path | None = Field(
        default=None,
        description="An existing interpreter to use on this node instead of installing one's own environment.",
    )
    state_dir: Path | None = Field(
        default=None, description="Where dynoctl keeps everything on this node; else `state_dir` at the top."
    )


class Install(Part):
    """How the Python environment of a node is built, where the topology names no existing one."""

    wheelhouse: Path | None = Field(
        default=None, description="A folder of wheels on the node, used instead of a package index."
    )
    index_url: UrlText | None = Field(
        default=None, description="The package index to install from; else pip's own settings decide."
    )
    python: Text = Field(
        default="python3", description="The interpreter that makes the environment, 3.11 or newer."
    )
