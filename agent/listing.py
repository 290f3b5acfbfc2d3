"""What `warden drivers` shows people: every kind with its settings, their units and ranges."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def show_drivers(rows: Iterable[Mapping[str, Any]]) -> None:
    """One table per kind and role, on standard output."""
    console = Console(highlight=False)
    for row in rows:
        note = "" if row["built_in"] else "  [yellow]not built into this version / 本版本尚未内置[/]"
        console.print(f"\n[bold]{row['kind']}[/]  {row['summary']}{note}")
        for role, fields in row["roles"].items():
            table = Table("key", "takes", "default", "what it is", title=role, title_justify="left")
            for field in fields:
                default = "required" if field["required"] else str(field["default"])
                table.add_row(field["key"], field["takes"], default, field["description"])
            console.print(table)
