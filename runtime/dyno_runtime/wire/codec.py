"""Bytes on the stream transport: a frame is a 4-byte big-endian length, a version byte, and a msgpack list.

`frame` turns envelopes into bytes, `Unframer` turns whatever pieces TCP delivers back into envelopes.
Anything that is not ours ends in `BadFrame`, before more than one frame is held in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dyno_runtime.wire.envelopes import Envelope
from dyno_runtime.wire.messages import Instance, ModelName, PrefillTask

VERSION = 1
MAX_FRAME_BYTES = 16 * 1024 * 1024
_HEAD_BYTES = 4

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Envelope])
_task_decoder = msgspec.msgpack.Decoder(PrefillTask)
_instance_decoder = msgspec.json.Decoder(Instance)
_name_decoder = msgspec.json.Decoder(ModelName)


class BadFrame(ValueError):
    """Bytes that are not a frame of this version; the connection cannot be used any further."""


class FrameTooLarge(ValueError):
    """Envelopes that do not fit into one frame."""


def frame(envelopes: Sequence[Envelope]) -> bytes:
    """One frame holding all of `envelopes`.

    Raises:
        FrameTooLarge: the frame would be larger than any receiver takes.
    """
    buffer = bytearray(b"\0\0\0\0")
    buffer.append(VERSION)
    _encoder.encode_into(envelopes, buffer, _HEAD_BYTES + 1)
    size = len(buffer) - _HEAD_BYTES
    if size > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"a message of {size} bytes is over the limit of {MAX_FRAME_BYTES}")
    buffer[:_HEAD_BYTES] = size.to_bytes(_HEAD_BYTES, "big")
    return bytes(buffer)


class Unframer:
    """Puts frames together from the pieces of one connection."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> list[Envelope]:
        """The envelopes of all frames that `data` completes, in order.

        Raises:
            BadFrame: the bytes are not frames of this version.
        """
        buffer = self._buffer
        buffer += data
        envelopes: list[Envelope] = []
        start = 0
        while len(buffer) - start >= _HEAD_BYTES:
            end = start + _HEAD_BYTES + self._size_at(start)
            if len(buffer) > start + _HEAD_BYTES and buffer[start + _HEAD_BYTES] != VERSION:
                version = buffer[start + _HEAD_BYTES]
                raise BadFrame(f"frame version {version}; this process speaks version {VERSION}")
            if len(buffer) < end:
                break
            envelopes += _decode(bytes(memoryview(buffer)[start + _HEAD_BYTES + 1 : end]))
            start = end
        if start:
            del buffer[:start]
        return envelopes

    def _size_at(self, start: int) -> int:
        size = int.from_bytes(self._buffer[start : start + _HEAD_BYTES], "big")
        if not 1 < size <= self._max_frame_bytes:
            raise BadFrame(f"a frame of {size} bytes; the limit is {self._max_frame_bytes}")
        return size


def _decode(payload: bytes) -> list[Envelope]:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(f"a frame that cannot be read: {error}") from error


def encode_task(task: PrefillTask) -> bytes:
    """A prefill task as it lies in the queue: the version byte and msgpack."""
    return bytes((VERSION,)) + _encoder.encode(task)


def decode_task(data: bytes) -> PrefillTask:
    """The task in `data`.

    Raises:
        BadFrame: not a task of this version.
    """
    if not data or data[0] != VERSION:
        raise BadFrame("a queue item of another version")
    try:
        return _task_decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(f"a queue item that cannot be read: {error}") from error


def encode_instance(instance: Instance) -> bytes:
    """An instance as it lies in etcd: JSON."""
    return msgspec.json.encode(instance)


def decode_instance(data: bytes) -> Instance:
    """The instance in `data`; keys of newer versions are ignored.

    Raises:
        BadFrame: not an instance.
    """
    try:
        return _instance_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(f"an instance that cannot be read: {error}") from error


def encode_model_name(name: ModelName) -> bytes:
    """A further name of a model as it lies in etcd: JSON."""
    return msgspec.json.encode(name)


def decode_model_name(data: bytes) -> ModelName:
    """The value in `data`; keys of newer versions are ignored.

    Raises:
        BadFrame: not such a value.
    """
    try:
        return _name_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(f"a model's name that cannot be read: {error}") from error
