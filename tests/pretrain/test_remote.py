"""Runs on packs that lie at URLs are the runs on the same packs on this machine."""

import shutil

import fsspec
import pytest

import data.pack
from backbones import ast_encoder
from checkpoints.config import recipe_config
from finetune import adapters
from pretrain import contrastive, mae


@pytest.fixture
def urls(family_pack, tmp_path, monkeypatch) -> dict[str, str]:
    """The pack's folder and its URLs by the names of their stores, with an empty cache."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    for path in family_pack.folder.iterdir():
        if path.is_file():
            files.pipe(f"/bucket/families/{path.name}", path.read_bytes())
    mounted = shutil.copytree(family_pack.folder, tmp_path / "mounted" / "families")
    return {"folder": str(mounted), "memory": "memory://bucket/families", "file": f"file://{mounted}"}


CACHE_GIB = str(1_500_000 / 2**30)
"""A part of the pack."""
OF_RECIPE = {
    mae: {"probe_clips": "0", "eval_clips": "8", "eval_every": "0", "shuffle_blocks": "3"},
    contrastive: {"init": "untrained", "probe_clips": "36", "test_clips": "16", "eval_every": "0"},
    adapters: {"init": "untrained", "heads": "[family]", "eval_every": "0", "shuffle_blocks": "3"},
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OF_RECIPE, ids=lambda recipe: recipe.RECIPE)
def test_a_pack_larger_than_its_cache_teaches_the_same_to_the_last_bit(recipe, urls, losses_of, tmp_path, monkeypatch):
    monkeypatch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 1})
    monkeypatch.setattr(data.pack, "BLOCK_BYTES", 100_000)

    def losses(name: str, place: str, *more: str) -> dict[int, float]:
        flags = OF_RECIPE[recipe] | {"data": place, "out": str(tmp_path / name), "clip_seconds": "1.0"}
        flags |= {"batch_size": "8", "steps": "4", "log_every": "1", "cpu_threads": "1"}
        arguments = [*(f"--{flag}={value}" for flag, value in flags.items()), *more]
        return losses_of(recipe.main(recipe_config(recipe.Config, recipe.RECIPE, arguments, "")).path)

    local = losses("local", urls["folder"])
    assert losses("remote", urls["memory"], f"--cache_gib={CACHE_GIB}") == local
    is_windowed = "shuffle_blocks" in OF_RECIPE[recipe]
    assert bool(list((tmp_path / "cache").glob("*/*.i16"))) == is_windowed


@pytest.mark.slow
def test_two_processes_and_their_workers_go_on_from_a_url(urls, short_flags, launch, losses_of, tmp_path):
    unbroken, resumed = tmp_path / "unbroken", tmp_path / "resumed"
    ended = launch(short_flags | {"keep_states": "9", "out": str(unbroken)}, processes=2)
    assert ended.returncode == 0, ended.stderr
    shutil.copytree(unbroken, resumed)
    for state in (resumed / "state").iterdir():
        if state.name > "step_00000003":
            shutil.rmtree(state)
    ended = launch({"resume": str(resumed), "data": urls["file"], "num_workers": "1"}, processes=2)
    assert ended.returncode == 0, ended.stderr
    assert f"fetching {urls['file']}" in ended.stdout
    assert losses_of(resumed) == losses_of(unbroken)
    assert list((tmp_path / "cache").glob("*/*.i16"))
