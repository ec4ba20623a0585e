"""Names outside a process, as docs/architecture.md has them."""

from __future__ import annotations

import re
from typing import get_args

from dyno_runtime import settings
from dyno_runtime.wire import messages, names


def test_names_are_those_of_the_document():
    assert names.instance_key("hello", "decode", "00ff") == "/hello/instances/decode/00ff"
    assert names.instances_prefix("hello") == "/hello/instances/"
    assert names.cluster_prefix("hello") == "/hello/"
    assert (names.prefill_stream("hello"), names.prefill_subjects("hello")) == (
        "hello_prefill",
        "hello.prefill.*",
    )
    assert names.prefill_subject("hello", "mock") == "hello.prefill.mock-ec864fe9"


def test_a_model_may_have_any_name_and_two_never_share_a_queue():
    odd = "meta/Llama-3.1 8B *>é" + "x" * 300
    assert names.prefill_consumer("meta/Llama-3.1") == "meta_Llama-3_1-3a804291"
    assert re.fullmatch("[A-Za-z0-9_-]{57}", names.prefill_consumer(odd))
    assert names.prefill_consumer("a.b") != names.prefill_consumer("a_b")


def test_keys_and_leases_go_both_ways():
    assert names.split_instance_key(names.instance_key("hello", "router", "00ff")) == ("router", "00ff")
    assert names.lease_id(0x694D967D) == "00000000694d967d"
    assert names.lease_number("00000000694d967d") == 0x694D967D


def test_settings_and_messages_know_the_same_roles():
    assert get_args(settings.RoleName) == get_args(messages.Role)
