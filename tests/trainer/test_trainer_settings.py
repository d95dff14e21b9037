"""Configurations: files, flags and assignments, and what is said of mistakes in them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from trainer import settings
from trainer.config import (
    FREE_ON_RESUME,
    Config,
    changes_on_resume,
    default_output,
    installed_configs,
    load_config,
)
from trainer.errors import UserError


def test_flags_override_the_file_and_assignments_override_flags(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("run: {seed: 1, epochs: 2, batch_size: 8}\noptimization: {learning_rate: 1e-4}\n", encoding="utf-8")
    config = load_config(file, {"run.seed": 3, "run.epochs": 4, "run.workers": None}, ["run.seed=5"])
    assert (config.run.seed, config.run.epochs, config.run.batch_size) == (5, 4, 8)
    assert config.optimization.learning_rate == 1e-4
    assert config.run.workers == Config().run.workers


def test_a_saved_configuration_is_whole_and_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(
        None, {"run.graphs": Path("g"), "model.backbone": "resnet18"}, ["data.mean=[1,2,3]", "data.std=[1,1,1]"]
    )
    file = tmp_path / "config.yaml"
    file.write_text(settings.to_yaml(config), encoding="utf-8")
    assert load_config(file) == config
    saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {f"{section}.{name}" for section, values in saved.items() for name in values} == set(settings.keys(Config))


def test_every_setting_has_a_default_and_says_what_it_is() -> None:
    for key in settings.keys(Config):
        assert settings.help_of(Config, key), key
        settings.default_of(Config, key)
    assert set(settings.keys(Config)) >= FREE_ON_RESUME


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("run.sed=1", "Did you mean `run.seed`?"),
        ("learning_rate=1", "Did you mean `optimization.learning_rate`?"),
        ("learning_rat=1", "Did you mean `optimization.learning_rate`?"),
        ("xyzzy.plugh=1", "trainer config"),
        ("run=1", "is a section"),
        ("run.seed=one", "must be a whole number"),
        ("run.seed=1.5", "must be a whole number"),
        ("run.compile=1", "must be true or false"),
        ("run.precision=bf61", "Did you mean bf16?"),
        ("run.seed", "expected KEY=VALUE"),
        ("run.batch_size=0", "must be at least 1"),
        ("optimization.warmup=2", "between 0 and 1"),
        ("data.mean=[0,0,0]", "data.std"),
        ("run.devices=many", "a number or auto"),
        ("objective.temperature=0", "at least 0.01"),
        ("objective.whole=-1", "at least 0"),
        ("objective.summary_others=0", "at least 1"),
        ("optimization.beta2=1", "below 1"),
        ("optimization.clip_norm=0", "above 0"),
        ("model.heads=3", "`model.dim` must be a multiple"),
        ("model.text_heads=3", "`model.text_width` must be a multiple"),
        ("validation.best=loss", "begins with validation/"),
        ("validation.every=0", "at least 1"),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(assignment: str, said: str) -> None:
    with pytest.raises(UserError, match=r".") as error:
        load_config(None, {}, [assignment])
    assert said in str(error.value)


def test_numbers_are_read_as_people_write_them() -> None:
    config = load_config(None, {}, ["optimization.learning_rate=3e-4", "run.max_steps=1e3", "run.precision=32"])
    assert (config.optimization.learning_rate, config.run.max_steps, config.run.precision) == (3e-4, 1000, "32")
    assert load_config(None, {}, ["optimization.clip_norm=null"]).optimization.clip_norm is None


def test_unknown_keys_of_a_file_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("run:\n  epoch: 3\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"`run\.epochs`") as error:
        load_config(file)
    assert "mine.yaml" in str(error.value)
    file.write_text("run: [1\n", encoding="utf-8")
    with pytest.raises(UserError, match="not YAML"):
        load_config(file)
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "none.yaml")


def test_only_settings_that_change_the_result_count_when_a_run_goes_on() -> None:
    before = load_config()
    assert changes_on_resume(before, load_config(None, {"run.workers": 5, "run.output": Path("x")})) == []
    changed = load_config(None, {"run.seed": 5})
    assert changes_on_resume(before, changed) == ["run.seed"]


def test_the_default_output_says_what_was_trained() -> None:
    config = load_config(
        None, {"run.graphs": Path("demo/graphs"), "objective.name": "clip", "model.backbone": "resnet18"}
    )
    assert default_output(config) == Path("runs/demo-graphs-clip-resnet18-seed0")


@pytest.mark.parametrize("name", sorted(installed_configs()))
def test_installed_configurations_are_read_and_say_how_they_are_run(name: str) -> None:
    path = installed_configs()[name]
    load_config(name)
    heading = path.read_text(encoding="utf-8").split("\n\n")[0]
    for part in (f"trainer pretrain --config {name}", "Time:", "Score:"):
        assert part in heading, part


def test_sections_are_dataclasses_of_settings() -> None:
    assert all(is_dataclass(getattr(Config(), field.name)) for field in fields(Config))
