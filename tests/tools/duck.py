#!/usr/bin/env python3
"""Runs SQL in DuckDB: {"first": [...], "ask": [...]} comes in, and a list of {"columns", "rows"} goes out, one for
each of "ask". Numbers that JSON can't hold are text."""

import json
import sys

import duckdb

request = json.load(sys.stdin)
database = duckdb.connect(":memory:", config={"threads": 1})
for statement in request["first"]:
    database.execute(statement)
answers = []
for question in request["ask"]:
    result = database.execute(question)
    answers.append(
        {
            "columns": [column[0] for column in result.description],
            "rows": result.fetchall(),
        }
    )
json.dump(answers, sys.stdout, default=str)
