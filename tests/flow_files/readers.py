"""Other people's code beside ours: DuckDB reads and writes Parquet, communityid makes Community IDs.

readers.py describe FILE           JSON: the name and type of each column, and the rows
readers.py rewrite FILE FOLDER     FILE again in each compression and with other types, made by DuckDB
readers.py community               JSON lines of [protocol, source, destination, sport, dport] in, IDs out
"""
import json
import sys


def describe(file):
    import duckdb

    one = duckdb.connect()
    columns = one.execute("describe select * from read_parquet(?)", [file]).fetchall()
    schema = one.execute("select name, type, repetition_type, logical_type from parquet_schema(?)", [file]).fetchall()
    groups = one.execute("select distinct compression from parquet_metadata(?)", [file]).fetchall()
    rows = one.execute("select * from read_parquet(?)", [file]).fetchall()
    print(json.dumps({
        "columns": [c[:2] for c in columns],
        "schema": [s for s in schema[1:]],
        "compression": [g[0] for g in groups],
        "rows": rows,
    }))


def rewrite(file, folder):
    import duckdb

    one = duckdb.connect()
    one.execute("create table t as select * from read_parquet(?)", [file])
    for how in ["snappy", "gzip", "zstd", "uncompressed"]:
        one.execute(f"copy t to '{folder}/{how}.parquet' (format parquet, compression {how}, row_group_size 2048)")
    names = [row[0] for row in one.execute("describe t").fetchall()]
    def wide(name, kind):
        return ", ".join(f'cast("{n}" as {kind}) as "{n}"' if n in name else f'"{n}"' for n in names)
    numbers = {"version", "srcport", "dstport", "protocol", "packets", "bytes", "start", "end", "tcp_flags"}
    small = {"srcport", "dstport"}
    for kind, which in [("bigint", numbers), ("varchar", numbers), ("usmallint", small), ("ubigint", numbers)]:
        one.execute(f"copy (select {wide(which, kind)} from t) to '{folder}/{kind}.parquet' (format parquet, parquet_version v2)")


def community():
    import communityid

    maker = communityid.CommunityID()
    for line in sys.stdin:
        proto, src, dst, sport, dport = json.loads(line)
        if proto in (6, 17, 132):
            flow = communityid.FlowTuple(proto, src, dst, sport, dport)
        else:
            flow = communityid.FlowTuple(proto, src, dst)
        print(maker.calc(flow))


{"describe": describe, "rewrite": rewrite, "community": community}[sys.argv[1]](*sys.argv[2:])
