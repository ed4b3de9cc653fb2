"""Verbs that ask the lake: sql, tables, queries, mine."""

from typing import Annotated

import typer

from datalake.verbs import At, Csv, Json, Limit, Set, hint_if_empty, numbers, open_lake, print_table

app = typer.Typer()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables of the lake.")],
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Ask the lake in SQL (DuckDB's dialect). Questions only read.

    Example: roadloop datalake sql "SELECT car_id, count(*) AS clips FROM clips GROUP BY ALL"
    """
    with open_lake(at) as lake:
        print_table(lake.sql(query), limit, as_json, as_csv)
        hint_if_empty(lake)


@app.command()
def tables(
    name: Annotated[str | None, typer.Argument(help="One table, column by column.")] = None,
    as_json: Json = False,
) -> None:
    """List the lake's tables with their rows, or one table's columns with their meaning."""
    import pyarrow as pa

    from datalake.lake import QueryError
    from datalake.tables import SQL_TYPES, TABLES

    if name is not None:
        if name not in TABLES:
            raise QueryError(f"no table is called {name!r}; there are: {', '.join(TABLES)}")
        rows = [
            {"column": c.name, "type": SQL_TYPES[c.kind], "meaning": c.about}
            for c in TABLES[name].columns
        ]
        print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)
        return
    with open_lake(None) as lake:
        counts = [lake.sql(f"SELECT count(*) AS n FROM {t}")["n"][0].as_py() for t in TABLES]
        rows = [
            {"table": t.name, "rows": n, "a row is": t.row}
            for t, n in zip(TABLES.values(), counts, strict=True)
        ]
        print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)
        hint_if_empty(lake)


@app.command()
def queries(as_json: Json = False) -> None:
    """List the named questions with what they find and their SQL."""
    import pyarrow as pa

    from datalake.mine import QUERIES

    rows = [
        {
            "name": q.name,
            "finds": q.about,
            "set": ", ".join(f"{k}={v:g}" for k, v in q.defaults.items()),
            "sql": q.sql(),
        }
        for q in QUERIES.values()
    ]
    print_table(pa.Table.from_pylist(rows), len(rows), as_json, False)


@app.command()
def mine(
    name: Annotated[str, typer.Argument(help="A named question: roadloop datalake queries.")],
    values: Set = None,
    at: At = None,
    limit: Limit = 40,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Answer a named question: the frames worth labelling, worst first.

    Example: roadloop datalake mine night_uncertain --set luma=60
    """
    from datalake.mine import named

    query = named(name).sql(**numbers(values))
    with open_lake(at) as lake:
        print_table(lake.sql(query), limit, as_json, as_csv)
        hint_if_empty(lake)
