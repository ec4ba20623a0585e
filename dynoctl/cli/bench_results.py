"""`dynoctl bench list`, `show` and `compare`: results that are kept here."""

from __future__ import annotations

from dynoctl.bench.compare import Change, changes, comparable
from dynoctl.bench.record import Record
from dynoctl.cli.bench_run import store
from dynoctl.cli.bench_tell import tell
from dynoctl.errors import DynoctlError, Exit, UsageError
from dynoctl.probe.bench.store import read
from dynoctl.show import json as show_json
from dynoctl.show.bench import table
from dynoctl.show.terminal import Terminal


def list_results(*, json: bool) -> int:
    """All of them, oldest first."""
    terminal = Terminal(quiet=json)
    found: list[tuple[str, Record | None]] = []
    for folder in store().folders():
        try:
            found.append((folder.name, read(folder)))
        except DynoctlError:
            found.append((folder.name, None))
    if json:
        terminal.result(show_json.document({"results": [_line(name, record) for name, record in found]}))
    elif not found:
        terminal.result("there is no result yet: dynoctl bench makes one")
    else:
        terminal.result(table.listed(found))
    return Exit.DONE


def _line(name: str, record: Record | None) -> dict[str, object]:
    if record is None:
        return {"result": name, "readable": False}
    return {
        "result": name,
        "readable": True,
        "started": record.started,
        "tool": record.tool.name,
        "url": record.target.url,
        "cluster": record.target.cluster,
        "model": record.target.model,
        "points": len(record.points),
        "valid": record.valid,
    }


def show(result: str, *, json: bool) -> int:
    """One of them, as it was printed when it was measured."""
    folder = store().find(result)
    record = read(folder)
    tell(record, folder, Terminal(quiet=json), json=json)
    return Exit.DONE if record.valid else Exit.FAILED


def compare(results: list[str], *, allow_invalid: bool, json: bool) -> int:
    """The first with each of the others."""
    if len(results) < 2:
        raise UsageError("compare what? two results are needed", next="dynoctl bench list")
    terminal = Terminal(quiet=json)
    records = [read(store().find(one)) for one in results]
    comparable(records, allow_invalid=allow_invalid)
    first, *others = records
    found = [(other, changes(first, other)) for other in others]
    if json:
        pairs = [
            {"was": first.id, "now": other.id, "changes": [_change(one) for one in all_of_it]}
            for other, all_of_it in found
        ]
        terminal.result(show_json.document({"comparisons": pairs}))
        return Exit.DONE
    for other, all_of_it in found:
        terminal.result(f"{first.id} → {other.id}")
        for line in _differences(first, other):
            terminal.result(f"  {line}")
        terminal.result(table.compared(all_of_it))
        if any(one.margin is None for one in all_of_it):
            terminal.result(
                "what was not repeated may be noise: measure both with --repeat 3 or more to know"
            )
        terminal.result()
    return Exit.DONE


def _change(one: Change) -> dict[str, object]:
    return {
        "load": one.load,
        "figure": one.figure,
        "was": one.was,
        "now": one.now,
        "percent": one.percent,
        "margin": one.margin,
        "verdict": one.verdict,
    }


def _differences(one: Record, other: Record) -> list[str]:
    """What else is not the same, and may be why."""

    def of(record: Record) -> dict[str, object]:
        return {
            "tool": f"{record.tool.name} {record.tool.version}",
            "topology": record.target.topology or record.target.url,
            "model": record.target.model,
            "tokenizer": record.tokenizer,
            "code": ", ".join(sorted({node.code or "-" for node in record.nodes.values()})) or "-",
            "client": record.client.hostname,
        }

    was, now = of(one), of(other)
    return [f"{name}: {was[name]} → {now[name]}" for name in was if was[name] != now[name]]
