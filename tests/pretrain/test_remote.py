"""Runs on packs that lie at URLs are the runs on the same packs on this machine."""

import shutil

import fsspec
import pytest

import data.pack
from backbones import ast_encoder
from checkpoints.config import recipe_config
from pretrain.mae import RECIPE, Config, main


@pytest.fixture
def urls(family_pack, tmp_path, monkeypatch) -> dict[str, str]:
    """The pack's URL by the name of its store, and an empty cache."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    for path in family_pack.folder.iterdir():
        if path.is_file():
            files.pipe(f"/bucket/families/{path.name}", path.read_bytes())
    mounted = shutil.copytree(family_pack.folder, tmp_path / "mounted" / "families")
    return {"memory": "memory://bucket/families", "file": f"file://{mounted}"}


@pytest.mark.slow
def test_a_run_larger_than_its_cache_reads_the_same_clips_to_the_last_bit(
    urls, short_flags, losses_of, tmp_path, monkeypatch
):
    monkeypatch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 1})
    monkeypatch.setattr(data.pack, "BLOCK_BYTES", 100_000)

    def losses(name: str, **flags: str) -> dict[int, float]:
        flags = short_flags | {"shuffle_blocks": "3", "out": str(tmp_path / name)} | flags
        config = recipe_config(Config, RECIPE, [f"--{one}={value}" for one, value in flags.items()], "")
        return losses_of(main(config).path)

    local = losses("local")
    assert losses("remote", data=urls["memory"], cache_gib=str(1_500_000 / 2**30)) == local
    assert list((tmp_path / "cache").glob("*/*.i16"))


@pytest.mark.slow
def test_a_run_of_two_processes_is_killed_and_goes_on_from_its_url(urls, short_flags, launch, losses_of, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    ended = launch(short_flags | {"out": str(unbroken)}, processes=2)
    assert ended.returncode == 0, ended.stderr
    flags = {"data": urls["file"], "num_workers": "1", "keep_states": "9", "out": str(broken)}
    ended = launch(short_flags | flags, processes=2)
    assert ended.returncode == 0, ended.stderr
    assert f"fetching {urls['file']}" in ended.stdout
    assert losses_of(broken) == losses_of(unbroken)
    for state in (broken / "state").iterdir():
        if state.name > "step_00000003":
            shutil.rmtree(state)
    shutil.rmtree(tmp_path / "cache")
    ended = launch({"resume": str(broken)}, processes=2)
    assert ended.returncode == 0, ended.stderr
    assert losses_of(broken) == losses_of(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["pretrain/contrastive.py", "finetune/adapters.py"])
def test_the_other_recipes_take_urls(recipe, urls, launch, losses_of, tmp_path):
    flags = {"init": "untrained", "clip_seconds": "1.0", "batch_size": "8", "steps": "2", "log_every": "1",
             "cpu_threads": "1"}  # fmt: skip
    flags |= {"heads": "[family]"} if recipe.startswith("finetune") else {"probe_clips": "0", "test_clips": "16"}
    runs = {}
    for name, place in (("local", urls["file"].removeprefix("file://")), ("remote", urls["file"])):
        ended = launch(flags | {"data": place, "out": str(tmp_path / name)}, recipe=recipe)
        assert ended.returncode == 0, ended.stderr
        runs[name] = losses_of(tmp_path / name)
    assert runs["remote"] == runs["local"]
