"""Lets the site of the guide hold what its pages link to elsewhere in the repository, under `repository/`.

A hook of mkdocs: the same relative links work on GitHub and in the site. A page that is linked to is rendered, another
file is copied; a link to a folder becomes text. A link that leads nowhere is left to mkdocs, which warns.
"""

from __future__ import annotations

import re
from os.path import relpath
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?P<mark>!?)\[(?P<text>(?:[^][]|\[[^]]*\])*)\]\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
HERE = "repository/"
GUIDE = "deploy/guide/"


def _in_repository(source: str) -> Path:
    """Path from the root of the repository of what the site has at `source`."""
    return Path(source.removeprefix(HERE) if source.startswith(HERE) else GUIDE + source)


def _in_site(path: Path) -> str:
    text = path.as_posix()
    return text.removeprefix(GUIDE) if text.startswith(GUIDE) else HERE + text


def _target(source: str, link: str) -> Path | None:
    """Path from the root of the repository of what a page links to; None for what is not there."""
    root = Path.cwd()
    found = (root / _in_repository(source).parent / link).resolve()
    return found.relative_to(root) if found.exists() and found.is_relative_to(root) else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to, and what that links to."""
    waiting = [file.src_uri for file in files if file.src_uri.endswith(".md")]
    while waiting:
        source = waiting.pop()
        text = FENCE.sub("", _in_repository(source).read_text(encoding="utf-8"))
        for link in LINK.finditer(text):
            path = _target(source, link["path"])
            if path is None or path.is_dir() or files.get_file_from_path(_in_site(path)):
                continue
            files.append(File.generated(config, _in_site(path), abs_src_path=str(Path.cwd() / path)))
            if path.suffix == ".md":
                waiting.append(_in_site(path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where the site has what they lead to."""
    source = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        path = _target(source, link["path"])
        if path is None:
            return link[0]
        if path.is_dir():
            return link["text"]
        return f"{link['mark']}[{link['text']}]({relpath(_in_site(path), Path(source).parent)}{link['anchor'] or ''})"

    fences = FENCE.findall(markdown)
    pieces = [LINK.sub(moved, piece) for piece in FENCE.split(markdown)]
    return "".join(piece + fence for piece, fence in zip(pieces, [*fences, ""], strict=True))
