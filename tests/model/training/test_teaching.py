"""A larger reader's posteriors as targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from model.data.tables import read_table
from model.encoders.text import ContextReader, Line, TextConfig, Tuned
from model.fusion.checkpoint import CheckpointError, networks_of
from model.labels import LABEL_SETS
from model.progress import Silent
from model.training.adapt import AdapterRecipe, tune_sentences
from model.training.config import ConfigError, TrainingConfig, leave_out
from model.training.config import load_config as load_training
from model.training.examples import read_conversations
from model.training.experiment import views
from model.training.prepared import UNKNOWN, prepare, so_far
from model.training.teaching import Teaching, teach
from model.training.train import Recipe, predict, train
from tests.support.small_corpus import CONFIG, checkpoint_with_reader, small_table, untrained_checkpoint

SENTENCES = [[Line("a", words)] for words in ("What a day!", "Get out.", "I miss her.", "Hm.", "No way!")]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_targets_are_labels_and_the_teachers_posterior(tmp_path: Path) -> None:
    labels, dialogues = read_table(small_table(tmp_path))
    teacher = checkpoint_with_reader(tmp_path)
    lessons = teach(Teaching((teacher, teacher), share=0.75, sentences=3), labels, dialogues, SENTENCES, Silent())
    said = ContextReader(TextConfig(context=2, tokens=32), Path(teacher) / "reader")
    posterior = np.concatenate([said([lines]) for lines in so_far(dialogues, 2)])
    table = read_conversations(dialogues, labels, 12)
    epoch = lessons.added_to(table, 5)
    n = len(table.lines)
    assert np.allclose(epoch.target[:n], 0.25 * table.target + 0.75 * posterior, atol=1e-4)
    assert [epoch.lines.index(lines) for lines in table.lines] == list(range(n)) and len(epoch.lines) == n + 3
    for lines, target in zip(epoch.lines[n:], epoch.target[n:], strict=True):
        assert np.allclose(target, said([lines])[0], atol=1e-4)
    assert epoch.sentiment is not None and table.sentiment is not None
    assert (epoch.sentiment[n:] == UNKNOWN).all() and (epoch.sentiment[:n] == table.sentiment).all()
    assert epoch.lines == lessons.added_to(table, 5).lines, "the seed draws the sentences"
    assert any(epoch.lines != lessons.added_to(table, seed).lines for seed in range(6, 10))


def test_the_table_alone(tmp_path: Path) -> None:
    labels, dialogues = read_table(small_table(tmp_path))
    teaching = Teaching((checkpoint_with_reader(tmp_path),), sentences=0)
    lessons = teach(teaching, labels, dialogues, SENTENCES, Silent())
    assert len(lessons.added_to(read_conversations(dialogues, labels, 12), 0).lines) == 42


@pytest.mark.parametrize("who", ["readers", "networks"])
def test_of_context_nothing_is_taught(tmp_path: Path, who: Literal["readers", "networks"]) -> None:
    """The targets lie at the utterances that have a label; those of context are empty, and masked in the loss."""
    labels, dialogues = read_table(small_table(tmp_path))
    thinned = [
        replace(one, rows=[row if n == 4 else replace(row, emotion="", sentiment="") for n, row in enumerate(one.rows)])
        for one in dialogues
    ]
    teaching = Teaching((checkpoint_with_reader(tmp_path),), share=1.0, sentences=0, who=who)
    whole, thin = (teach(teaching, labels, each, [], Silent()).posterior for each in (dialogues, thinned))
    assert np.allclose(thin, whole[4::7], atol=1e-4) and len(thin) == 6
    (view,) = views(thinned, labels, CONFIG, Tuned(), Recipe(noise_share=0), Silent(), teaching)
    assert view.target is not None
    for target, taught in zip(view.target, thin, strict=True):
        assert np.allclose(target[4], taught, atol=1e-4) and not target[[0, 1, 2, 3, 5, 6]].any()


def test_an_adapter_for_sentences_takes_the_teachers_word(tmp_path: Path) -> None:
    """Annotated or taught, they are two adapters; each is tuned once."""
    words = ("What a day!\t3\ta", "Get out.\t0\tb", "I miss her.\t5\tc", "Hm.\t4\td")
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("\n".join(words) + "\n")
    text = TextConfig(context=2, tokens=32)
    taught = AdapterRecipe(rank=2, sentence_epochs=1, sentence_teachers=(checkpoint_with_reader(tmp_path),))
    losses = []

    class Losses(Silent):
        def curve(self, name: str, values: dict[str, float], step: int) -> None:
            losses.append(values["loss"])

    folders = [
        tune_sentences(text, recipe, tmp_path, tmp_path / "work", 0, Losses())
        for recipe in (taught, replace(taught, sentence_teachers=()), taught)
    ]
    assert folders[0] == folders[2] != folders[1] and len(losses) == 2
    assert losses[0] != pytest.approx(losses[1], rel=1e-3), "from the same weights, other targets"


def test_who_cannot_teach(tmp_path: Path) -> None:
    labels, dialogues = read_table(small_table(tmp_path))

    def refused(*checkpoints: str, **changes: object) -> str:
        with pytest.raises(CheckpointError) as error:
            teach(Teaching(checkpoints), replace(labels, **changes), dialogues, [], Silent())  # type: ignore[arg-type]
        return str(error.value)

    assert "'nobody'" in refused("nobody")
    assert "has no reader that could teach" in refused(untrained_checkpoint(tmp_path))
    assert "cannot teach here: its emotions are neutral" in refused(
        checkpoint_with_reader(tmp_path), emotions=LABEL_SETS["emorynlp"].emotions
    )


def test_networks_teach_what_they_make_of_the_conversation(tmp_path: Path) -> None:
    """Those of all seeds, by the mean of their posteriors."""
    labels, dialogues = read_table(small_table(tmp_path))
    teacher = untrained_checkpoint(tmp_path)
    (Path(teacher) / "seeds").mkdir()
    weights = load_file(Path(teacher) / "model.safetensors")
    save_file({name: -value for name, value in weights.items()}, Path(teacher) / "seeds" / "seed-1.safetensors")
    teaching = Teaching((teacher,), who="networks", share=0.75, sentences=0)
    lessons = teach(teaching, labels, dialogues, [], Silent())
    networks = networks_of(teacher)
    said = [predict(each, prepare(dialogues, labels, each.config, Tuned(), Silent())) for each in networks]
    assert len(said) == 2 and not np.allclose(said[0], said[1], atol=1e-3)
    assert np.allclose(lessons.posterior, np.mean(said, 0), atol=1e-5)
    with pytest.raises(CheckpointError, match="has no reader that could teach"):
        teach(replace(teaching, sentences=2), labels, dialogues, SENTENCES, Silent())


def test_the_graph_learns_the_teachers_posterior(tmp_path: Path) -> None:
    """Its targets are those of the reader, in the view with noise, too; one-hot targets are learnt as classes are."""
    labels, dialogues = read_table(small_table(tmp_path))
    recipe = Recipe(epochs=2, label_smoothing=0.0)
    teaching = Teaching((checkpoint_with_reader(tmp_path),), share=0.75)
    taught, plain = (views(dialogues, labels, CONFIG, Tuned(), recipe, Silent(), each) for each in (teaching, None))
    lessons = teach(teaching, labels, dialogues, [], Silent())
    expected = lessons.added_to(read_conversations(dialogues, labels, 0), 0).target
    for view in taught:
        assert view.target is not None and np.allclose(np.concatenate(view.target), expected)
    hard = [replace(view, target=[np.eye(7, dtype=np.float32)[e] for e in view.emotion]) for view in plain]
    trained = [predict(train(CONFIG, recipe, each, plain[0], 0, Silent()), plain[0]) for each in (plain, hard, taught)]
    assert np.allclose(trained[0], trained[1], atol=1e-4) and not np.allclose(trained[0], trained[2], atol=1e-2)


def test_a_run_without_its_teacher() -> None:
    adapter = AdapterRecipe(sentence_teachers=("meld-large",))
    config = leave_out(TrainingConfig("meld", teacher=Teaching(("meld-large",)), adapter=adapter), ["teacher"])
    assert config.teacher is None and config.adapter == AdapterRecipe()


def test_a_teacher_in_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "taught.toml"
    file.write_text('data = "meld"\n[teacher]\ncheckpoints = ["meld-large"]\nshare = 0.5\n')
    assert load_training(str(file)).teacher == Teaching(("meld-large",), 0.5, 10_000)
    for wrong in ("checkpoints = []", 'checkpoints = ["meld-large"]\nconfiguration = "iemocap"'):
        file.write_text(f'data = "meld"\n[teacher]\n{wrong}\n')
        with pytest.raises(ConfigError, match="name either checkpoints or a configuration"):
            load_training(str(file))
