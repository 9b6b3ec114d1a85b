"""Pages for people who carry on the work, and what GitHub reads: links, names, versions and permissions are right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

import stream
from tests.support.pages import ALL_PAGES, GUIDE, relative, targets

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
MAY_WRITE = {
    "codeql.yml": {"analyze: security-events"},
    "release.yml": {
        "wheel: id-token", "wheel: attestations", "pypi: id-token", "image: id-token", "image: attestations",
        "image: packages",
    },
}  # fmt: skip
"""What jobs of the workflows may write; the others nothing."""
TOP = {
    "stream", "model", "workers", "deploy", "tests", "undertone.py", "pyproject.toml", "Makefile", "mkdocs.yml",
    "README.md", "CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE",
    "NOTICE", "constraints.txt", "requirements*.lock",
}  # fmt: skip
"""All that the top level may hold, besides dot-files."""
FOLDER = r"(?:stream|model|workers|deploy|tests|\.github|\.ci)/"
PATH = re.compile(rf"(?<![\w./:-])({FOLDER}[\w.*/-]*)((?:::\w+(?:\.\w+)*)?)")
TOKEN = re.compile(r"`([A-Za-z_][\w.]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def defined(file: Path) -> set[str]:
    """Classes, functions, methods and assigned names of a module, methods with their class."""
    names: set[str] = set()

    def walk(nodes: list[ast.stmt], before: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(before + node.name)
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{before}{node.name}.")
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name):
                    names.add(before + target.id)

    walk(ast.parse(file.read_text()).body, "")
    return names


@cache
def sources() -> str:
    """All that programs read, as one text."""
    read = [ROOT / "pyproject.toml", ROOT / "Makefile", ROOT / ".ci" / "run"]
    for folder in ("stream", "model", "workers", "tests", "deploy"):
        read += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".js", ".toml")]
    return "\n".join(path.read_text() for path in read if path != Path(__file__))


@cache
def known_tests() -> set[str]:
    """Names of the files and functions of tests."""
    files = list((ROOT / "tests").rglob("*.py"))
    return {path.stem for path in files}.union(*map(defined, files))


def there(path: str, name: str) -> bool:
    """True for a file, folder or pattern that is there and, after `::`, a name that the file defines."""
    found = list(ROOT.glob(path.rstrip("/"))) if "*" in path else [ROOT / path]
    right = bool(found) and all(each.is_dir() if path.endswith("/") else each.exists() for each in found)
    return right and (not name or name in defined(ROOT / path))


def missing(page: Path) -> set[str]:
    """Names on a page that nothing has."""
    text = page.read_text()
    gone = set()
    of_users = tuple(f"deploy/{folder.strip('/')}" for folder in (ROOT / "deploy" / ".gitignore").read_text().split())
    for path, name in PATH.findall(text):
        path, name = path.rstrip(".-"), name.removeprefix("::")
        if not there(path, name) and not path.startswith(of_users):
            gone.add(f"{path}::{name}" if name else path)
    gone |= {f"make {name}" for name in re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.M) if name not in targets()}
    gone |= {name for name in re.findall(r"`(test_\w+)(?:\.py)?`", text) if name not in known_tests()}
    if page.parent == ROOT and page.name in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        gone |= {name for name in TOKEN.findall(text) if name not in sources() and not (ROOT / name).exists()}
    return gone


@pytest.mark.parametrize("page", ALL_PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", ALL_PAGES, ids=relative)
def test_what_pages_name_is_there(page: Path) -> None:
    assert not missing(page)


def test_the_site_of_the_guide_is_built_without_a_broken_link(tmp_path: Path) -> None:
    check("mkdocs", "build", "--strict", "--site-dir", tmp_path)
    told = (tmp_path / "service.html").read_text()
    assert 'href="repository/deploy/SECURITY.html"' in told and 'src="repository/deploy/demo/dashboard.png"' in told
    assert (tmp_path / "repository" / "deploy" / "demo" / "dashboard.png").exists()
    asked = r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//[^"]+"'
    assert not [page for page in tmp_path.rglob("*.html") if re.search(asked, page.read_text())], "asks others"


def test_the_site_of_the_guide_lists_every_page() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert {path for entry in navigation for path in entry.values() if isinstance(path, str)} == {
        page.name for page in GUIDE.glob("*.md")
    }


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [path.parent for folder in ("stream", "model", "workers") for path in (ROOT / folder).glob("*/__init__.py")]
    assert len(rooms) > 10
    assert not [relative(room) for room in rooms if f"`{relative(room)}/`" not in text]


def test_the_top_level_holds_nothing_else() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    names = [path.name for path in ROOT.iterdir() if not path.name.startswith(".")]
    assert not [name for name in names if not any(fnmatch(name, pattern) for pattern in TOP | ignored)]


def check(*arguments: str | Path) -> None:
    """A checker of the virtual environment is content."""
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def fits(schema: str, *files: Path) -> None:
    """Files are as a schema that check-jsonschema brings says."""
    done = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, *map(str, files)])
    assert done.exit_code == 0, done.output


def version() -> str:
    return stream.__version__


def test_the_citation_fits_its_schema_and_the_version() -> None:
    fits("vendor.citation-file-format", ROOT / "CITATION.cff")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version()


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    sections = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert sections[0] == "Unreleased" and version() in sections


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make (\S+) +\S", listed, re.M)) == targets()


def test_hooks_are_local_and_look_at_changed_files_alone() -> None:
    check("pre_commit", "validate-config", ROOT / ".pre-commit-config.yaml")
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        assert repository["repo"] == "local"
        assert all(hook.get("pass_filenames", True) for hook in repository["hooks"])


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-forms", FORMS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_github_reads_its_files(schema: str, files: list[Path]) -> None:
    assert files
    fits(schema, *files)
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 120}, truthy: {check-keys: false}}}"
    check("yamllint", "--strict", "-d", rules, *files)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=relative)
def test_workflows_may_read_and_run_what_is_pinned(workflow: Path) -> None:
    text = workflow.read_text()
    content: dict[Any, Any] = yaml.safe_load(text)
    assert content["permissions"] == {"contents": "read"}
    written = {
        f"{name}: {scope}"
        for name, job in content["jobs"].items()
        for scope, right in job.get("permissions", {}).items()
        if right == "write"
    }
    assert written == MAY_WRITE.get(workflow.name, set())
    triggers = content[True]  # YAML 1.1 reads `on` so
    assert "pull_request_target" not in triggers and "secrets." not in text
    used = re.findall(r"uses: (.+)", text)
    assert used and all(re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40}  # v[\d.]+", action) for action in used)


def test_the_workflow_runs_what_has_to_pass() -> None:
    steps = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]["check"]["steps"]
    (step,) = [step for step in steps if step.get("run") == ".ci/run"]
    assert step["env"]["PYTEST_ADDOPTS"] == '-m "not data"'


def test_tests_that_read_the_data_are_marked(request: pytest.FixtureRequest) -> None:
    """The workflow has no data, and leaves out what is marked. Looks at the tests of this run."""
    readers = [item for item in request.session.items if {"data", "models"} & set(getattr(item, "fixturenames", ()))]
    assert not [item.nodeid for item in readers if item.get_closest_marker("data") is None]
