"""What makes the repository's own pages a site."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
CARDS = sorted(ROOT.glob("lightning_modules/*/weights/*.md"))
# Pages that lie outside docs/ -> their place in the site.
PLACES = {ROOT / "README.md": "index.md"}
PLACES |= {card: f"weights/{card.parts[-3]}_{card.name}" for card in CARDS}
LINK = re.compile(r"(?<=\]\()[\w./]+(?=[)#])")


def on_config(config: MkDocsConfig) -> None:
    config.nav.append({"Weights": [PLACES[card] for card in CARDS]})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that hold in the repository, to links that hold in the site."""
    folder = Path(page.file.abs_src_path).parent

    def moved(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[0]))
        place = PLACES.get(target) or os.path.relpath(target, config.docs_dir)
        return os.path.relpath(place, os.path.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The double colons that announce a block in docstrings."""
    return html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
