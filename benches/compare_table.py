"""The table of compare.py: medians beside each other, and what was promised."""
import statistics
import sys

HEAD = ("figure", "daemon", "peer", "ratio", "must", "reached")


def progress(what):
    print(f"... {what}", file=sys.stderr, flush=True)


def shown(value, unit):
    if unit == "s":
        for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * scale >= 1 or name == "µs":
                value *= scale
                return f"{value:.{max(0, 3 - len(str(int(value))))}f} {name}"
    if unit == "%":
        return f"{value:.3f} %"
    return f"{value:.1f} {unit}" if isinstance(value, float) else f"{value} {unit}".strip()


class Figure:
    """The median of some samples."""

    def __init__(self, samples, unit):
        self.samples = samples if isinstance(samples, list) else [samples]
        self.unit = unit
        self.median = statistics.median(self.samples)

    def __str__(self):
        text = shown(self.median, self.unit)
        if len(self.samples) > 1:
            text += (f" ({shown(min(self.samples), self.unit)}"
                     f" to {shown(max(self.samples), self.unit)})")
        return text


class Table:
    """Prints its rows when the block ends; `reached` counts over all tables."""
    reached = {"stretch": 0, "must": 0, "NO": 0}

    def __init__(self, title):
        self.title = title
        self.rows = []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None or not self.rows:
            return
        widths = [max(map(len, column)) for column in zip(HEAD, *self.rows)]
        line = "| " + " | ".join(f"{{:<{width}}}" for width in widths) + " |"
        print(f"\n## {self.title}\n")
        print(line.format(*HEAD))
        print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        for row in self.rows:
            print(line.format(*row))
        sys.stdout.flush()

    def add(self, what, ours, peer=None, name="", unit="s", value=None, ratio=None, less=None):
        """One row. `ours` and `peer` are samples; `value`, `ratio`, `less` are what must
        be and what was hoped for (must, stretch): of the daemon's figure at most, of
        the daemon's by the peer's at most, of the peer's by the daemon's at least."""
        ours = Figure(ours, unit)
        cells = [what, str(ours), "", "", "", ""]
        if peer is not None:
            peer = Figure(peer, unit)
            cells[2] = f"{name} {peer}"
            if peer.median > 3 * ours.median:
                cells[3] = f"1 : {peer.median / ours.median:,.0f}"
            else:
                cells[3] = f"{ours.median / peer.median:.2f}"
        if value:
            self._judge(cells, f"≤ {shown(value[0], unit)}",
                        *(ours.median <= most for most in value))
        elif ratio:
            self._judge(cells, f"≤ {ratio[0]} ×",
                        *(ours.median <= most * peer.median for most in ratio))
        elif less:
            self._judge(cells, f"1 : ≥ {less[0]:,}",
                        *(peer.median >= least * ours.median for least in less))
        self.rows.append(cells)

    def _judge(self, cells, must, reached, stretched=False):
        word = "stretch" if stretched else "must" if reached else "NO"
        self.reached[word] += 1
        cells[4:] = must, word
