"""What tests/text/tokenize_tool says of texts.

    for row in tokenize_tool.rows_of(tool, path, texts, folder): row.ids, row.offsets, row.plain, row.decoded, row.skipped

ToolError, with the one line that the tool printed, where it refuses the tokenizer or a text.
"""
import os
import struct
import subprocess
from dataclasses import dataclass


class ToolError(Exception):
    pass


@dataclass
class Row:
    ids: list  # with special tokens
    offsets: list  # two of each id, in bytes
    plain: list  # ids without special tokens
    decoded: str
    skipped: str  # decoded without special tokens


def rows_of(tool, path, texts, folder, env=None):
    records, out = os.path.join(folder, "texts.records"), os.path.join(folder, "ids.records")
    with open(records, "wb") as file:
        for text in texts:
            file.write(struct.pack("<I", len(text.encode())) + text.encode())
    result = subprocess.run([tool, path, records, out], capture_output=True, text=True, env=env)
    if result.returncode:
        raise ToolError(result.stderr.strip())
    with open(out, "rb") as file:
        data = file.read()
    at = 0

    def numbers(count):
        nonlocal at
        at += 4 * count
        return list(struct.unpack_from(f"<{count}i", data, at - 4 * count))

    def string():
        nonlocal at
        (size,) = numbers(1)
        at += size
        return data[at - size:at].decode()

    rows = []
    while at < len(data):
        (count,) = numbers(1)
        rows.append(Row(numbers(count), numbers(2 * count), numbers(*numbers(1)), string(), string()))
    return rows
