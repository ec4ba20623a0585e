"""The environment of a plan's units: what all share once, the rest by unit, secrets masked."""

from __future__ import annotations

from dynoctl.show.environment import environment_lines
from tests.dynoctl.plan import world
from tests.dynoctl.plan.test_hardware import VLLM, found


def test_what_all_share_stands_once_and_secrets_nowhere() -> None:
    wanted = world.topology(
        VLLM, "env.HF_TOKEN=hf_abc", "services.nats={url: 'nats://u:pw@10.9.9.9:4222'}", "env.A=two words"
    )
    lines = list(environment_lines(world.planned(wanted, found(wanted))))
    assert lines == [
        "environment",
        "   every role   A='two words' ETCD_ENDPOINTS=http://10.0.0.1:2379 HF_TOKEN=*** "
        "NATS_SERVER=nats://***@10.9.9.9:4222",
        *(
            f"   {unit}  CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={gpus} GLOO_SOCKET_IFNAME=eth0 "
            f"NCCL_SOCKET_IFNAME==eth0 UCX_NET_DEVICES=eth0 VLLM_HOST_IP={address}"
            for unit, gpus, address in (
                ("n1/decode-0", "5,4", "10.0.0.1"),
                ("n1/decode-1", "1,0", "10.0.0.1"),
                ("n1/decode-2", "2,3", "10.0.0.1"),
                ("n2/decode-0", "0,1,2,3", "10.0.0.2"),
            )
        ),
    ]


def test_one_unit_alone_shares_nothing_and_none_says_nothing() -> None:
    wanted = world.topology()
    after = world.up(wanted)
    assert list(environment_lines(world.planned(wanted, after))) == []
    failed = world.change(after, "local", "decode-0", phase="stopped", alive=False, supervised=False)
    lines = list(environment_lines(world.planned(wanted, failed)))
    assert lines == [
        "environment",
        "   local/decode-0  ETCD_ENDPOINTS=http://127.0.0.1:2379 NATS_SERVER=nats://127.0.0.1:4222",
    ]
