"""What a mask should cost by the kernels' machine code: tests/cubins/sass.txt, read."""

import pathlib
import re

TABLE = pathlib.Path(__file__).resolve().parents[2] / "tests" / "cubins" / "sass.txt"


class Row:
    """Cycles of a tile, (where everything overlaps, where nothing does), and a causal problem's price in percent."""

    def __init__(self):
        self.full = self.partial = self.causal = None


def table(text):
    """{kernel: Row}"""
    rows, row, at = {}, None, ""
    for line in text.splitlines():
        if head := re.match(r"(flash_\S+) \S+, tiles of ", line):
            row = rows.setdefault(head[1], Row())
        elif tile := re.match(r"  (full|partial) tile", line):
            at = tile[1]
        elif cycles := re.search(r"; at best ([\d.]+) \(\w+\), products exposed ([\d.]+)", line):
            setattr(row, at, (float(cycles[1]), float(cycles[2])))
        elif price := re.match(r"# (flash_\S+) .*; causal 4096: *([-\d.]+) % \.\. *([-\d.]+) %", line):
            rows[price[1]].causal = (float(price[2]), float(price[3]))
    return rows


def price(rows, mask, plain, masked):
    """(least, most) percent that a mask costs: "causal" of 4096, one that "hides nothing", a "random half"; None: the table has no such kernel."""
    plain, masked = (rows.get(kernel.removeprefix("cuda.")) for kernel in (plain, masked))
    if not plain or not masked:
        return None
    tile = masked.full if mask == "hides nothing" else masked.partial
    both = masked.causal if mask == "causal" else tile and [(ours / bare - 1) * 100 for ours, bare in zip(tile, plain.full)]
    return both and (min(both), max(both))


def words(mask, plain, masked):
    found = price(table(TABLE.read_text()), mask, plain, masked)
    return f"{found[0]:.1f} .. {found[1]:.1f} %" if found else f"nothing for {masked}"
