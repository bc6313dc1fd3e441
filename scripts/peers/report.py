"""The table: a row is one comparison with its bound. Rows of one kind differ in their case, such as the family; the
page shows the worst case of a kind, the terminal every one."""

import dataclasses
import importlib.metadata

PEERS = ["torch", "transformers", "peft", "tokenizers", "safetensors"]


@dataclasses.dataclass
class Row:
    case: str
    what: str
    peer: str
    value: float
    bound: float
    total: int = 0  # for counts: of how many

    def passed(self):
        return self.value <= self.bound and (self.bound > 0 or self.total > 0)  # NaN fails

    def nearness(self):
        """Above 1 is over the bound."""
        return self.value / self.bound if self.bound > 0 else self.value

    def shown(self):
        return (f"{self.value} of {self.total:,} differ", "0") if self.bound == 0 else (f"{self.value:.1e}",
                                                                                       f"{self.bound:.1e}")


class Report:
    def __init__(self, machine):
        self.machine = machine
        self.sections = []  # (title, rows)
        self.skipped, self.notes = [], []

    def section(self, title):
        self.sections.append((title, []))
        print(f"\n{title}", flush=True)

    def _add(self, row):
        self.sections[-1][1].append(row)
        value, bound = row.shown()
        name = f"{row.case}: {row.what}" if row.case else row.what
        print(f"  {'pass' if row.passed() else 'FAIL'}  {value:>20}  bound {bound:<8} {name}, against {row.peer}",
              flush=True)

    def error(self, case, what, peer, value, bound):
        """A norm-wise relative error."""
        self._add(Row(case, what, peer, value, bound))

    def count(self, case, what, peer, wrong, total):
        """Things that differ; none may."""
        self._add(Row(case, what, peer, wrong, 0, total))

    def skip(self, what):
        self.skipped.append(what)

    def rows(self):
        return [row for _, rows in self.sections for row in rows]

    def failed(self):
        return not self.rows() or not all(row.passed() for row in self.rows())

    def summary(self):
        lines = ["", *self.notes, *(f"not run: {what}" for what in self.skipped), self._versions()]
        wrong = sum(not row.passed() for row in self.rows())
        lines.append(f"{len(self.rows())} comparisons, {wrong} over their bound")
        return "\n".join(lines)

    def _versions(self):
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PEERS)

    def markdown(self):
        lines = [f"{len(self.rows())} comparisons with {self._versions()}; {self.machine}. A line with several cases "
                 "shows the one nearest its bound.", ""]
        for title, rows in self.sections:
            lines += [f"### {title}", "", "| ours | against | cases | largest difference | bound | |",
                      "|---|---|---|---|---|---|"]
            kinds = {}
            for row in rows:
                kinds.setdefault((row.what, row.peer), []).append(row)
            for (what, peer), cases in kinds.items():
                worst = max(cases, key=Row.nearness)
                value, bound = worst.shown()
                if len(cases) > 1 and worst.bound > 0:
                    value += f" ({worst.case})"
                elif len(cases) > 1:
                    value = f"{sum(row.value for row in cases)} of {sum(row.total for row in cases):,} differ"
                passed = "pass" if all(row.passed() for row in cases) else "**FAIL**"
                lines.append(f"| {what} | {peer} | {len(cases)} | {value} | {bound} | {passed} |")
            lines.append("")
        lines += [f"- {note}." for note in self.notes]
        lines += [f"- Not run: {what}." for what in self.skipped]
        return "\n".join(lines).rstrip()
