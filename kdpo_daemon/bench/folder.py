"""All that can be measured on a folder of real data: each part of which the folder has the files.

Measures nothing itself.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdpo_daemon.bench import documents, intake, wikidata
from kdpo_daemon.errors import SettingsError
from kdpo_daemon.stages import Progress

_REPLAYED = ("absent", "replay", "samples", "cost")
#: The parts of a folder, with what shows that they can be measured.
_PARTS = {
    "factbook": "changes.jsonl",
    "wikidata": "Q*@rev*.json",
    "feeds": "**/*",
    "feeds_polls": "*",
}


def measure(
    data: Path, database: Path, progress: Progress, further: Path | None = None
) -> dict[str, Any]:
    """Give the numbers of each part, ready for JSON; `absent` names those without files.

    SettingsError if the folder has no part at all.
    """
    there = [part for part, shown in _PARTS.items() if any((data / part).glob(shown))]
    if not there:
        raise SettingsError(
            f"holds none of {', '.join(_PARTS)}",
            subject=str(data),
            hint="give the folder that holds factbook/changes.jsonl as --data",
        )
    result: dict[str, Any] = {"absent": [part for part in _PARTS if part not in there]}
    if "factbook" in there:
        result |= intake.run(data, database, progress, further)
    if "wikidata" in there:
        progress("comparing revisions", 0, 1)
        result["wikidata"] = [asdict(pair) for pair in wikidata.measure(data)]
    if "feeds" in there:
        progress("reading documents", 0, 1)
        result["documents"] = [asdict(row) | {"good": row.good} for row in documents.measure(data)]
    if "feeds_polls" in there:
        progress("polling again", 0, 1)
        result["polls"] = {
            name: [asdict(counts) for counts in polls]
            for name, polls in documents.polls(data).items()
        }
    return result


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Give what a person wants to see of the numbers."""
    shown: dict[str, Any] = {key: result[key] for key in _REPLAYED if key in result}
    if "wikidata" in result:
        shown["wikidata"] = [
            {key: pair[key] for key in ("item", "after", "touched", "told", "expected")}
            | {"differs in": [one["property"] for one in pair["differences"]]}
            for pair in result["wikidata"]
        ]
    if "documents" in result:
        shown["documents"] = of_documents(result["documents"])
    if "polls" in result:
        shown["polls"] = result["polls"]
    return shown


def of_documents(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Give how many documents were read, at what cost, and which were read otherwise."""
    return {
        "documents": len(rows),
        "refused": sum(row["entries"] is None for row in rows),
        "entries": sum(row["entries"] or 0 for row in rows),
        "longest, s": max((row["seconds"] for row in rows), default=0.0),
        "largest, MB": max((row["peak_mb"] for row in rows), default=0.0),
        "not good": [row["file"] for row in rows if not row["good"]],
    }
