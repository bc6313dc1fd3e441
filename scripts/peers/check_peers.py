"""What scripts/check-peers runs: trains with Serval, reads the results with the peers, compares, prints a table."""

import argparse
import os
import pathlib
import re
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import exports
import fixtures
import invariances
import stories
import texts
import vocabulary
from report import Report
from tools import Tools

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECTIONS = {
    "exports": exports.check,
    "vocabulary": vocabulary.check,
    "fixtures": fixtures.check,
    "qwen_adapter": fixtures.check_qwen_adapter,
    "stories": stories.check,
    "invariances": invariances.check,
    "tokenizers": texts.check_tokenizers,
    "templates": texts.check_templates,
}


def write_page(table):
    """The table goes between two marks of docs/fidelity.md; the text around it stays."""
    path = ROOT / "docs" / "fidelity.md"
    begin, end = "<!-- check-peers: begin -->", "<!-- check-peers: end -->"
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    text = path.read_text(encoding="utf-8")
    if not pattern.search(text):
        sys.exit(f"{path}: expected the marks {begin} and {end}")
    path.write_text(pattern.sub(lambda _: f"{begin}\n{table}\n{end}", text), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--data", default=os.environ.get("SERVAL_TEST_DATA", str(ROOT / ".." / "shared" / "data")))
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write needs every section")
    work = pathlib.Path(tempfile.mkdtemp(prefix="serval-peers-"))
    try:
        tools = Tools(ROOT, pathlib.Path(options.build), pathlib.Path(options.data), work)
        report = Report(tools.machine())
        for name, section in SECTIONS.items():
            if options.only in (None, name):
                section(tools, report)
    finally:
        shutil.rmtree(work)
    print(report.summary())
    if options.write:
        write_page(report.markdown())
    sys.exit(1 if report.failed() else 0)


if __name__ == "__main__":
    main()
