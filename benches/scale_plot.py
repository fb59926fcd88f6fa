"""Draws what scale.py has measured, as SVG, with the standard library alone.

One column an axis, CPU time above memory, both logarithmic. Colours are Okabe
and Ito's, which differ for colour-blind readers too, a little darker on white;
each line has a marker of its own besides.
"""
import html
import math

WIDTH = 980
LEFT, GAP, RIGHT = 62, 84, 20
PLOT = (WIDTH - LEFT - GAP - RIGHT) / 2
HEAD = 74
LEGEND_LINE = 19
COLUMN = 86
MARKER = 4.5

PANELS = [
    ("CPU time, ms", 300, ["poll", "page_cpu", "anew", "plain", "save", "rest", "kept"]),
    ("Memory and file, MB", 190, ["scraped", "polled", "state"]),
]
LABELS = {
    "poll": "first poll, start taken off",
    "page_cpu": "restart from state to the first page",
    "anew": "gzip scrape, page made anew",
    "plain": "plain scrape",
    "save": "one save of the state file",
    "rest": "a minute at rest, 4 gzip scrapes",
    "kept": "gzip scrape, page kept",
    "scraped": "resident after the scrapes",
    "polled": "resident after the poll",
    "state": "state file",
}
# On white, on black.
COLOURS = [("#b34700", "#ff8c42"), ("#0067a5", "#56b4e9"), ("#00765a", "#2fc79b"),
           ("#a8437e", "#e99bc9"), ("#7a6a00", "#f0e442"), ("#6b4fb3", "#b8a1ff"),
           ("#3d3d3d", "#d0d0d0")]
SHAPES = ["circle", "square", "up", "diamond", "down", "cross", "plus"]

STYLE = """
  .page { fill: #ffffff } .ink { fill: #1f2328 } .dim { fill: #59636e }
  .grid { stroke: #d8dee4; stroke-width: 1 } .frame { fill: none; stroke: #8c959f }
  .guide { stroke: #8c959f; stroke-dasharray: 5 4; stroke-width: 1.2 }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
  .title { font-size: 18px; font-weight: 600 } .head { font-weight: 600 }
  .number { font-variant-numeric: tabular-nums }
"""


def draw(result):
    heights = [height + 56 + LEGEND_LINE * (len(names) + 1) + 26 for _, height, names in PANELS]
    body = [text(LEFT, 30, "How cost grows with what is watched", "title ink"),
            text(LEFT, 51, subtitle(result), "dim")]
    for column, axis in enumerate(result["axes"]):
        x, y = LEFT + column * (PLOT + GAP), HEAD
        for (title, height, names), room in zip(PANELS, heights):
            body += panel(x, y, title, height, names, axis, bounds(result, names))
            y += room
    height = HEAD + sum(heights)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d">\n'
            f'<title id="t">How cost grows with what is watched</title>\n'
            f'<desc id="d">{html.escape(description(result))}</desc>\n'
            f"<style>{STYLE}{colours()}</style>\n"
            f'<rect class="page" width="{WIDTH}" height="{height}"/>\n'
            + "\n".join(body) + "\n</svg>\n")


def colours():
    def rules(which):
        return " ".join(f".l{at} {{ stroke: {pair[which]} }} .m{at} {{ fill: {pair[which]};"
                        f" stroke: {pair[which]} }}" for at, pair in enumerate(COLOURS))
    return (f"  .line {{ fill: none; stroke-width: 2 }} .marker {{ stroke-width: 1.5 }}\n"
            f"  {rules(0)}\n"
            "  @media (prefers-color-scheme: dark) {\n"
            "    .page { fill: #0d1117 } .ink { fill: #e6edf3 } .dim { fill: #9198a1 }\n"
            "    .grid { stroke: #262c36 } .frame, .guide { stroke: #656c76 }\n"
            f"    {rules(1)}\n  }}\n")


def subtitle(result):
    machine = result["machine"]
    return (f"One daemon, medians. {machine['cpu']}, {machine['cpus']} CPUs, {machine['date']}."
            " Dashed: twice as much costs twice as much.")


def description(result):
    lines = []
    for axis in result["axes"]:
        for figure in axis["figures"]:
            if figure["name"] in LABELS and figure["exponent"] is not None:
                lines.append(f"{figure['title']} with {axis['unit']}: exponent"
                             f" {figure['exponent']:.2f}")
    return "; ".join(lines) + "."


def bounds(result, names):
    """The same scale in both columns, whole decades."""
    values = [value for axis in result["axes"] for figure in axis["figures"]
              if figure["name"] in names for value in figure["median"] if value > 0]
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def panel(x, y, title, height, names, axis, decades):
    sizes = axis["sizes"]
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])
    margin = 0.12
    low, high = decades

    def px(size):
        part = (math.log10(size) - first + margin) / (last - first + 2 * margin)
        return x + part * PLOT

    def py(value):
        return y + 22 + (high - math.log10(value)) / (high - low) * height

    bottom = y + 22 + height
    out = [text(x, y + 10, f"{title}, {heading(axis)}", "head ink")]
    for decade in range(low, high + 1):
        at = py(10.0 ** decade)
        out.append(line(x, at, x + PLOT, at, "grid"))
        out.append(text(x - 8, at + 4, tick(decade), "dim number", "end"))
    for size in sizes:
        at = px(size)
        out.append(line(at, y + 22, at, bottom, "grid"))
        out.append(text(at, bottom + 18, number(size), "dim number", "middle"))
    out.append(f'<rect class="frame" x="{x:.1f}" y="{y + 22:.1f}" width="{PLOT:.1f}"'
               f' height="{height}"/>')
    out.append(text(x + PLOT, bottom + 36, axis["unit"], "dim", "end"))
    # A slope of one, up from the lower left corner as far as there is room.
    times = 10.0 ** min(last - first, high - low)
    foot = 10.0 ** low
    out.append(line(px(sizes[0]), py(foot), px(sizes[0] * times), py(foot * times), "guide"))
    figures = {figure["name"]: figure for figure in axis["figures"]}
    shown = sorted(names, key=lambda name: -figures[name]["median"][-1])
    legend = bottom + 56
    out.append(text(x + PLOT - COLUMN, legend, "exponent", "dim", "end"))
    out.append(text(x + PLOT, legend, "last decade", "dim", "end"))
    for place, name in enumerate(shown):
        style = names.index(name)
        points = [(px(size), py(value)) for size, value in zip(sizes, figures[name]["median"])
                  if value > 0]
        out.append(f'<polyline class="line l{style}" points="'
                   + " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
        out += [marker(style, *point) for point in points]
        at = legend + LEGEND_LINE * (place + 1)
        out.append(line(x, at - 4, x + 26, at - 4, f"line l{style}"))
        out.append(marker(style, x + 13, at - 4))
        out.append(text(x + 34, at, LABELS[name], "ink"))
        for right, key in ((COLUMN, "exponent"), (0, "exponent_last_decade")):
            value = figures[name][key]
            out.append(text(x + PLOT - right, at, "—" if value is None else f"{value:.2f}",
                            "ink number", "end"))
    return out


def heading(axis):
    if axis["unit"] == "series":
        return f"configured tasks of {axis['rows']} artifacts"
    return f"followed tasks of {axis['rows']} artifact" + "s" * (axis["rows"] != 1)


def tick(decade):
    return number(10 ** decade) if decade >= 0 else f"{10.0 ** decade:g}"


def number(value):
    return f"{value:,}".replace(",", "\u202f")


def text(x, y, words, kind, anchor="start"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
            f"{html.escape(words)}</text>")


def line(x1, y1, x2, y2, kind):
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def marker(style, x, y):
    """Open crosses and filled shapes, so that no two are alike in grey either."""
    m = MARKER
    paths = {
        "square": f"M{x - m + .5:.1f},{y - m + .5:.1f}h{2 * m - 1}v{2 * m - 1}h{1 - 2 * m}z",
        "up": f"M{x:.1f},{y - m:.1f}l{m},{2 * m - 1}h{-2 * m}z",
        "down": f"M{x:.1f},{y + m:.1f}l{m},{1 - 2 * m}h{-2 * m}z",
        "diamond": f"M{x:.1f},{y - m - .5:.1f}l{m},{m + .5}l{-m},{m + .5}l{-m},{-m - .5}z",
        "cross": f"M{x - m + 1:.1f},{y - m + 1:.1f}l{2 * m - 2},{2 * m - 2}m0,{2 - 2 * m}"
                 f"l{2 - 2 * m},{2 * m - 2}",
        "plus": f"M{x:.1f},{y - m:.1f}v{2 * m}M{x - m:.1f},{y:.1f}h{2 * m}",
    }
    shape = SHAPES[style]
    if shape == "circle":
        return f'<circle class="marker m{style}" cx="{x:.1f}" cy="{y:.1f}" r="{m - .5}"/>'
    return f'<path class="marker m{style}" d="{paths[shape]}"/>'
