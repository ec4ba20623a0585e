"""Hears the KV events of an engine in a child process, and names its blocks as routers do.

In: what its publisher sends, over two sockets in a folder of our own. Out: `KvEvents`, numbered by us without a gap,
and `held`. An event that was lost is asked for again; where the publisher has it no more, all is forgotten: a block
that is held and not known costs a hit, one that is known and not held costs a wrong choice each time.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dyno_runtime.engine.base import HashBlocks, KvCleared, KvEvents, KvRemoved, KvStored, OnKv
from dyno_runtime.engine.named_blocks import NamedBlocks
from dyno_runtime.engine.vllm.kv_events import BadEvent, Cleared, Event, Removed, Stored, read_batch
from dyno_runtime.wire.kv import BlockHash

log = logging.getLogger("dyno.kv")

REPLAY_S = 2.0
END = (-1).to_bytes(8, "big", signed=True)


class Changes:
    """What changed since `take`, in order, and what is held; a `Keeper`."""

    def __init__(self) -> None:
        self.held: dict[BlockHash, None] = {}
        self._changes: list[KvStored | KvRemoved | KvCleared] = []

    def stored(self, hashes: Iterable[BlockHash]) -> None:
        new = list(hashes)
        self.held.update(dict.fromkeys(new))
        self._changes.append(KvStored(new, 0, []))

    def removed(self, hashes: Iterable[BlockHash]) -> None:
        old = list(hashes)
        for one in old:
            self.held.pop(one, None)
        self._changes.append(KvRemoved(old))

    def cleared(self) -> None:
        self.held.clear()
        self._changes.append(KvCleared())

    def take(self) -> list[KvStored | KvRemoved | KvCleared]:
        """The changes, forgotten here."""
        changes, self._changes = self._changes, []
        return changes


class KvAccount:
    """The engine's events in their order: what to apply, what to ask again. Sockets are somebody else's."""

    def __init__(self, block_size: int, hash_blocks: HashBlocks) -> None:
        self.seq = 0  # of the last `KvEvents` that left
        self.expected = 0  # the publisher's next number
        self.on_kv: OnKv | None = None
        self._changes = Changes()
        self._blocks = NamedBlocks(self._changes, block_size, hash_blocks)

    @property
    def count(self) -> int:
        """How many blocks are held."""
        return len(self._changes.held)

    def held(self) -> tuple[int, list[BlockHash]]:
        """All blocks, after the events with this number."""
        return self.seq, list(self._changes.held)

    def misses(self, number: int) -> bool:
        """Whether something is missing before the batch of this number. One that begins anew forgets the old."""
        if number < self.expected:
            log.warning("vLLM's KV events begin anew: %d after %d", number, self.expected - 1)
            self.forget(number)
        return number > self.expected

    def forget(self, expected: int) -> None:
        """What was known is not, from here on."""
        self._blocks.cleared()
        self.expected = expected
        self._tell()

    def take(self, number: int, payload: bytes) -> None:
        """The batch that was expected."""
        self.expected = number + 1
        try:
            for event in read_batch(payload):
                self._apply(event)
        except BadEvent as error:
            log.warning("%s", error)
            self._blocks.cleared()  # what the batch said is not known
        self._tell()

    def _apply(self, event: Event) -> None:
        match event:
            case Stored():
                try:
                    salt = int(event.salt) if event.salt is not None and event.salt.isdigit() else 0
                    self._blocks.stored(event.blocks, event.before, event.tokens, salt)
                except ValueError as error:
                    log.warning("%s", error)  # blocks without a name cost a hit, and nothing else
            case Removed():
                self._blocks.removed(event.blocks)
            case Cleared():
                self._blocks.cleared()

    def _tell(self) -> None:
        changes = self._changes.take()
        if changes:
            self.seq += 1
            if self.on_kv is not None:
                self.on_kv(KvEvents(self.seq, changes))


class KvListener:
    """The sockets. `config` is what the engine's publisher is told; `run` hears it until cancelled."""

    def __init__(self, account: KvAccount, folder: Path | None = None) -> None:
        self.account = account
        self.folder = folder or Path(tempfile.mkdtemp(prefix="dyno-kv-"))

    @property
    def config(self) -> dict[str, Any]:
        """vLLM's `kv_events_config`. Sockets in a folder that only we may enter, so nobody else hears prompts."""
        return {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"ipc://{self.folder}/events",
            "replay_endpoint": f"ipc://{self.folder}/replay",
        }

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def run(self) -> None:
        """Hear the engine; returns only by being cancelled."""
        import zmq
        import zmq.asyncio

        context = zmq.asyncio.Context.instance()
        events = context.socket(zmq.SUB)
        events.setsockopt(zmq.RCVHWM, 0)
        events.subscribe(b"")
        events.connect(self.config["endpoint"])
        try:
            while True:
                _, number, payload = await events.recv_multipart()
                seq = int.from_bytes(number, "big")
                if self.account.misses(seq):
                    await self._replay(context, zmq.DEALER, seq)
                if seq == self.account.expected:
                    self.account.take(seq, payload)
        finally:
            events.close(linger=0)

    async def _replay(self, context: Any, kind: int, until: int) -> None:
        """Get what is missing before batch `until`; forget everything where it is not to be had."""
        account = self.account
        missing = account.expected
        asked = context.socket(kind)
        asked.connect(self.config["replay_endpoint"])
        try:
            async with asyncio.timeout(REPLAY_S):
                await asked.send_multipart([b"", missing.to_bytes(8, "big")])
                while account.expected < until:
                    _, _, number, payload = await asked.recv_multipart()
                    if number == END:
                        break
                    seq = int.from_bytes(number, "big")
                    if seq == account.expected and seq < until:
                        account.take(seq, payload)
        except TimeoutError:
            pass
        finally:
            asked.close(linger=0)
        if account.expected != until:
            log.warning(
                "vLLM's KV events %d to %d are lost; its blocks count anew", account.expected, until - 1
            )
            account.forget(until)
        else:
            log.info("vLLM's KV events %d to %d were heard again", missing, until - 1)
