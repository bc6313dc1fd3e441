#!/usr/bin/env python3
"""Small Parquet, Arrow, gzip and Zstandard files, and what `datasets` and Python's csv make of splits and CSV.

    make_table_fixtures.py      writes tests/fixtures/data/tables and tests/fuzz/corpus/arrow (needs pyarrow, datasets; seed 7)
"""
import csv
import gzip
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from datasets.arrow_reader import ReadInstruction

ROOT = Path(__file__).resolve().parent.parent / "fixtures" / "data" / "tables"


def tables():
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    rows = 30
    table = pa.table({
        "messages": pa.array([[{"role": "user", "content": f"say {i}\n\"now\" é"},
                               {"role": "assistant", "content": None if i % 7 == 0 else f"{i}"}] for i in range(rows)],
                             pa.list_(message)),
        "number": pa.array([None if i == 3 else i - 5 for i in range(rows)], pa.int32()),
        "score": pa.array([i / 8 for i in range(rows)], pa.float32()),
        "good": pa.array([i % 2 == 0 for i in range(rows)]),
        "kind": pa.array([["a", "bb", "ccc"][i % 3] for i in range(rows)]).dictionary_encode(),
        "ids": pa.array([list(range(i % 4)) for i in range(rows)], pa.large_list(pa.int64())),
        "pairs": pa.array([[("x", i), ("y", None)] for i in range(rows)], pa.map_(pa.string(), pa.int64())),
        "day": pa.array([i * 1000 for i in range(rows)], pa.date32()),
        "nothing": pa.nulls(rows),
    })
    for compression in ("zstd", "snappy", "none", "gzip"):
        pq.write_table(table, ROOT / f"{compression}.parquet", compression=compression, row_group_size=7)
    with pa.OSFile(str(ROOT / "file.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=11)
    with pa.OSFile(str(ROOT / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    pyarrow.feather.write_feather(table, str(ROOT / "lz4.feather"))
    pq.write_table(pa.table({"image": [b"\xff\x00"]}), ROOT / "bytes.parquet")
    pq.write_table(table.slice(0, 0), ROOT / "empty.parquet")
    with open(ROOT / "rows.jsonl", "w", encoding="utf-8") as out:
        for row in table.to_pylist():
            row["pairs"] = dict(row["pairs"])
            row["day"] = str(row["day"])
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def fuzz_seeds():
    """Files of a few hundred bytes, each with another encoding, for tests/fuzz/corpus/arrow."""
    seeds = ROOT.parent.parent.parent / "fuzz" / "corpus" / "arrow"
    seeds.mkdir(parents=True, exist_ok=True)
    text = pa.table({"text": ["one", "two", None]})
    nested = pa.table({"messages": pa.array([[{"role": "user", "content": "hi"}], []],
                                            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))})
    numbers = pa.table({"ids": pa.array([[1, 2], None, [3]], pa.list_(pa.int32())), "score": [0.5, None, 2.0],
                        "good": [True, False, None], "day": pa.array([1, 2, 3], pa.date32()),
                        "kind": pa.array(["a", "b", "a"]).dictionary_encode()})
    plain = {"use_dictionary": False, "compression": "none", "write_statistics": False, "store_schema": False}
    for name, table, options in [
            ("plain.parquet", text, plain), ("nested.parquet", nested, plain), ("numbers.parquet", numbers, plain),
            ("dictionary.parquet", text, {**plain, "use_dictionary": True}),
            ("delta.parquet", text, {**plain, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}),
            ("delta_length.parquet", text, {**plain, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}}),
            ("pages2.parquet", nested, {**plain, "data_page_version": "2.0", "compression": "snappy"}),
            ("checksums.parquet", text, {**plain, "write_page_checksum": True, "compression": "zstd"}),
            ("groups.parquet", text, {**plain, "row_group_size": 1, "compression": "gzip"}),
            ("lz4.parquet", text, {"compression": "lz4"}), ("schema.parquet", numbers.select(["kind"]), {"compression": "none"})]:
        pq.write_table(table, seeds / name, **options)
    for name, table in (("text", text), ("nested", nested), ("numbers", numbers)):
        with pa.OSFile(str(seeds / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        with pa.OSFile(str(seeds / f"{name}.stream"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    pyarrow.feather.write_feather(text, str(seeds / "zstd.feather"), compression="zstd")


def compressed():
    lines = "".join(json.dumps({"text": f"line {i} " + "ab" * (i % 50)}) + "\n" for i in range(200)).encode()
    half = len(lines) // 2
    (ROOT / "lines.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    (ROOT / "two_members.jsonl.gz").write_bytes(gzip.compress(lines[:half], mtime=0) + gzip.compress(lines[half:], mtime=0))
    codec = pa.Codec("zstd")
    pack = lambda data: codec.compress(data, asbytes=True)
    (ROOT / "lines.jsonl.zst").write_bytes(pack(lines))
    (ROOT / "two_frames.jsonl.zst").write_bytes(pack(lines[:half]) + pack(lines[half:]))
    (ROOT / "bomb.jsonl.gz").write_bytes(gzip.compress(b"{" + b" " * (80 << 20), mtime=0))


def splits():
    cases = []
    for size in (1, 2, 5, 7, 99, 100, 101, 150, 249, 1000, 1319, 7473, 123457):
        for text in ("s", "s[:10%]", "s[50%:]", "s[:1%]", "s[33%:66%]", "s[-10%:]", "s[:-5%]", "s[2:]", "s[:3]", "s[-2:]",
                     "s[1:-1]", "s[:50%](pct1_dropremainder)", "s[5%:95%](pct1_dropremainder)", "s[:1_0]"):
            try:
                absolute, = ReadInstruction.from_spec(text).to_absolute({"s": size})
                bounds = [absolute.from_, absolute.to]
            except (ValueError, AssertionError):
                bounds = None
            cases.append({"split": text, "rows": size, "bounds": bounds})
    (ROOT / "splits.json").write_text(json.dumps(cases))


def csv_files():
    random.seed(7)
    cases = []
    pieces = ["a", "b c", "1.5", "", "é", "\"", ",", "\n", "\r\n", "x\"y", ";", "\t", "true", "'", " "]
    for case in range(120):
        columns = ["c" + str(i) for i in range(random.randint(1, 4))]
        delimiter = random.choice([",", ";", "\t", "|"])
        rows = [["".join(random.choices(pieces, k=random.randint(0, 4))) for _ in columns] for _ in range(random.randint(1, 6))]
        out = io.StringIO()
        quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        writer = csv.writer(out, delimiter=delimiter, lineterminator=random.choice(["\n", "\r\n"]), quoting=quoting)
        writer.writerow(columns)
        writer.writerows(rows)
        read = list(csv.reader(io.StringIO(out.getvalue(), newline=""), delimiter=delimiter))[1:]
        cases.append({"text": out.getvalue(), "delimiter": delimiter, "columns": columns,
                      "rows": [row for row in read if row]})
    (ROOT / "csv.json").write_text(json.dumps(cases))


ROOT.mkdir(parents=True, exist_ok=True)
tables()
fuzz_seeds()
compressed()
splits()
csv_files()
