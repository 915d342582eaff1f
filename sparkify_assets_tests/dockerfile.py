"""The Dockerfile as tests read it: the RUN lines and variables of each stage."""

import re
import shlex
from dataclasses import dataclass, field


@dataclass
class Stage:
    """What one FROM begins."""

    image: str
    user: str = "root"
    commands: list[str] = field(default_factory=list)  # RUN, as a shell gets them
    copies: list[list[str]] = field(default_factory=list)  # COPY: what, and at last where
    variables: dict[str, str] = field(default_factory=dict)  # ENV, but for PATH


def stages(text: str) -> list[Stage]:
    """Reads the form that ours has: no ARG, no heredoc, a comment on a line of its own."""
    found: list[Stage] = []
    lines = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    for name, words in (line.split(None, 1) for line in lines if line):
        if name == "FROM":
            found.append(Stage(words.split()[0]))
        elif name == "RUN":
            found[-1].commands.append(words)
        elif name == "COPY":
            found[-1].copies.append(words.split())
        elif name == "USER":
            found[-1].user = words
        elif name == "ENV":
            pairs = dict(word.split("=", 1) for word in shlex.split(words))
            pairs.pop("PATH", None)
            found[-1].variables |= pairs
    return found
