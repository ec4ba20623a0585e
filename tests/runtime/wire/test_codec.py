"""Frames: what goes in comes out, in any pieces; what is not a frame is refused early."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_runtime.wire import codec
from dyno_runtime.wire.codec import BadFrame, FrameTooLarge, Unframer, frame
from dyno_runtime.wire.envelopes import Cancel, End, Hello, Item, Open, Ping
from dyno_runtime.wire.messages import Address, Delta, Failure, Generate, Instance, PrefillTask, Text

ENVELOPES = [
    Hello("hello", "00000000000000ff", Address("10.0.0.1", 7300)),
    Ping(),
    Open(1, Generate("r-1", [1, 2, 300_000], "remote")),
    Item(1, Delta([7], None, "remote:node3/prefill-0")),
    Item(1, Text("ä", "stop", "node1/decode-0", "local")),
    End(1, Failure("peer_lost", "gone")),
    End(2),
    Cancel(3),
]


@given(st.lists(st.sampled_from(ENVELOPES), max_size=8), st.integers(1, 64))
def test_frames_survive_any_cutting(envelopes, piece):
    stream = b"".join(frame([one]) for one in envelopes) + frame(envelopes)
    unframer = Unframer()
    got = []
    for start in range(0, len(stream), piece):
        got += unframer.feed(stream[start : start + piece])
    assert got == envelopes + envelopes


@given(st.binary(min_size=1, max_size=200))
def test_garbage_is_refused_or_waited_for_and_never_breaks(data):
    unframer = Unframer()
    try:
        assert all(isinstance(one, Hello | Ping | Open | Item | End | Cancel) for one in unframer.feed(data))
    except BadFrame:
        pass


def test_http_on_the_stream_port_is_refused_at_once():
    with pytest.raises(BadFrame, match=r"a frame of 1195725856 bytes; the limit is 16777216"):
        Unframer().feed(b"GET / HTTP/1.1\r\n")


def test_another_version_is_refused_by_name():
    changed = bytearray(frame([Ping()]))
    changed[4] = 9
    with pytest.raises(BadFrame, match=r"^frame version 9; this process speaks version 1$"):
        Unframer().feed(bytes(changed))


def test_a_frame_of_the_wrong_types_is_refused():
    payload = b"\x01" + msgspec.msgpack.encode([[3, "one", None]])
    with pytest.raises(BadFrame, match=r"^a frame that cannot be read: "):
        Unframer().feed(len(payload).to_bytes(4, "big") + payload)


def test_deep_nesting_is_refused():
    payload = b"\x01" + b"\x91" * 100_000
    with pytest.raises(BadFrame):
        Unframer().feed(len(payload).to_bytes(4, "big") + payload)


def test_a_frame_over_the_limit_is_not_sent(monkeypatch):
    monkeypatch.setattr(codec, "MAX_FRAME_BYTES", 100)
    with pytest.raises(FrameTooLarge, match=r"^a message of 118 bytes is over the limit of 100$"):
        frame([Open(1, Text("x" * 106))])


def test_a_task_survives_the_queue():
    task = PrefillTask("r", [1, 2], "00000000000000ff", Address("10.0.0.1", 7300))
    assert codec.decode_task(codec.encode_task(task)) == task


@pytest.mark.parametrize("data", [b"", b"\x07abc", b"\x01\xc1", b"\x01" + msgspec.msgpack.encode([1, 2])])
def test_a_strange_queue_item_is_refused(data):
    with pytest.raises(BadFrame, match=r"^a queue item "):
        codec.decode_task(data)


def test_an_instance_is_readable_json_and_tolerates_newer_keys():
    one = Instance("decode", "00000000000000ff", "n1", "decode-0", Address("10.0.0.1", 7300), "hello")
    data = codec.encode_instance(one)
    assert codec.decode_instance(data) == one
    assert codec.decode_instance(data[:-1] + b',"shoe_size":46}') == one
    assert msgspec.json.decode(data)["stream"] == {"host": "10.0.0.1", "port": 7300}
    with pytest.raises(BadFrame, match=r"^an instance that cannot be read: "):
        codec.decode_instance(b"{}")
