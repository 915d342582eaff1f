"""Writes docs/reference.md, and the drawing of the tables in README.md: `python docs/reference.py`.

Tables come from `sql/`, variables from the settings and the comments of `.env.example`; how they
are laid out is in `reference.md.jinja`. A test fails when one of the documents is out of date.
"""

import re
from collections import defaultdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from sparkify_assets.audit import audits_of
from sparkify_assets.catalog import Catalog
from sparkify_assets.settings import RedshiftSettings, Settings
from sparkify_assets.tables import Table

DOCS = Path(__file__).parent
ROOT = DOCS.parent
README, REFERENCE = ROOT / "README.md", DOCS / "reference.md"
COLOURS = {"staging": "#e8dcc8", "intermediate": "#dbe7d3", "star": "#cfe3f5", "marts": "#e6daf0"}


def documents() -> dict[Path, str]:
    """The text that each document should have: of the README, only the drawing is ours."""
    catalog = Catalog.load(ROOT / "sql")
    layers = defaultdict(list)
    for table in sorted(catalog.tables.values(), key=lambda t: t.name):
        layers[table.layer].append(table)
    jinja = Environment(loader=FileSystemLoader(DOCS), trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    reference = jinja.get_template("reference.md.jinja").render(
        variables=variables(),
        layers={name: layers[name] for name in [*COLOURS, "loading", "privacy", "maintenance"]},
        audits={table.name: audits_of(table) for table in catalog.assets},
    )
    drawing = flowchart([table for name in COLOURS for table in layers[name]])
    text = README.read_text(encoding="utf-8")
    readme = re.sub("flowchart TB\n.*?(?=```)", lambda _: drawing, text, flags=re.DOTALL)
    return {README: readme, REFERENCE: reference}


def variables() -> list[tuple[str, object, str]]:
    """Every environment variable: name, default, and meaning."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    comments = re.findall(r"((?:^# .*\n)+)^# ([A-Z_0-9]+)=", example, re.MULTILINE)
    meanings = {name: " ".join(text.replace("# ", "").split()) for text, name in comments}
    fields = [
        (str(field.validation_alias or f"{kind.model_config['env_prefix']}{name.upper()}"), field)
        for kind in (Settings, RedshiftSettings)
        for name, field in kind.model_fields.items()
    ]
    return [(name, field.default, meanings[name]) for name, field in fields]


def flowchart(tables: list[Table]) -> str:
    """Each table below its origins, as Mermaid; an arrow that a longer path implies is left out."""
    by_name = {table.name: table for table in tables}
    origins = {t.name: {t.source} if t.source else by_name.keys() & t.reads for t in tables}

    def above(name: str) -> set[str]:
        if name not in by_name or by_name[name].suspects:
            return set()  # a table that reads the repairs of texts reads the texts as well
        return {above_it for o in origins[name] for above_it in ({o} | above(o))}

    nearest = {
        n: frozenset(o for o in os if not any(o in above(p) for p in os))
        for n, os in origins.items()
    }
    inner = {name for found in nearest.values() for name in found}
    boxes = defaultdict(
        list
    )  # tables that nothing is made from share one, if their origins are the same
    for name, found in nearest.items():
        boxes[by_name[name].layer, found, name if name in inner else ""].append(name)
    lines = ["flowchart TB"]
    for (layer, found, _), names in boxes.items():
        label = f'["{"<br>".join(names)}"]' if len(names) > 1 else ""
        lines.append(f"    {' & '.join(sorted(found))} --> {names[0]}{label}:::{layer}")
    lines += [f"    classDef {name} fill:{c},stroke:#888,color:#111" for name, c in COLOURS.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
