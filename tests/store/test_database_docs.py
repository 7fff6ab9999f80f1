"""docs/database.md names every table, column and query as they are."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from kdpo_daemon.store.db import Database
from kdpo_daemon.store.tables import FeedRow
from tests.store.test_applied_edits import told

DOCUMENT = (Path(__file__).parents[2] / "docs" / "database.md").read_text("utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)


def lines_of(section: str) -> dict[str, str]:
    """Give the lines of a section's table by the name in their first cell."""
    text = DOCUMENT.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return {name: line for line, name in re.findall(r"^(\| `(\w+)` \|.*)", text, re.MULTILINE)}


def test_every_column_of_the_view_is_explained_in_order(database: Database) -> None:
    with database.begin() as tx:
        columns = [
            column["name"] for column in sa.inspect(tx.connection()).get_columns("applied_edits")
        ]

    assert list(lines_of("The view `applied_edits`")) == columns


def test_every_table_and_column_is_explained() -> None:
    tables = FeedRow.metadata.tables

    lines = lines_of("Tables")

    assert set(lines) == set(tables)
    for table in tables.values():
        for column in table.columns:
            assert column.name == "id" or f"`{column.name}`" in lines[table.name], column


@pytest.mark.parametrize(
    ("query", "rows"),
    list(zip(QUERIES, [1, 1, 4, 2, 1, 2, 0], strict=True)),
    ids=range(1, len(QUERIES) + 1),
)
def test_every_query_runs_and_finds_what_it_says(
    database: Database, query: str, rows: int
) -> None:
    with database.begin() as tx:
        told(tx)

        assert len(tx.connection().execute(sa.text(query)).all()) == rows
