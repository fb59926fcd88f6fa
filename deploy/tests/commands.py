"""Prints the shell commands of a guide that carry a mark.

Usage: commands.py GUIDE MARK

A mark is the line `<!-- test: MARK -->` before a block of sh. What a reader is
told to type is what the tests run.
"""

import pathlib
import re
import sys


def blocks(guide: pathlib.Path, mark: str) -> list[str]:
    pattern = rf"<!-- test: {re.escape(mark)} -->\n+```sh\n(.*?)^```$"
    found = re.findall(pattern, guide.read_text(), re.DOTALL | re.MULTILINE)
    if not found:
        raise SystemExit(f"{guide} has no commands marked {mark}")
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(blocks(pathlib.Path(sys.argv[1]), sys.argv[2])))
