"""Names outside a process, as docs/architecture.md has them."""

from __future__ import annotations

from typing import get_args

from dyno_runtime import settings
from dyno_runtime.wire import messages, names


def test_names_are_those_of_the_document():
    assert names.instance_key("hello", "decode", "00ff") == "/hello/instances/decode/00ff"
    assert names.instances_prefix("hello") == "/hello/instances/"
    assert names.cluster_prefix("hello") == "/hello/"
    assert (names.prefill_stream("hello"), names.prefill_subject("hello")) == (
        "hello_prefill",
        "hello.prefill",
    )


def test_keys_and_leases_go_both_ways():
    assert names.split_instance_key(names.instance_key("hello", "router", "00ff")) == ("router", "00ff")
    assert names.lease_id(0x694D967D) == "00000000694d967d"
    assert names.lease_number("00000000694d967d") == 0x694D967D


def test_settings_and_messages_know_the_same_roles():
    assert get_args(settings.RoleName) == get_args(messages.Role)
