"""The command that embeds a pack: what it writes, where it goes on, and that processes change nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from audit import embed
from audit.embed import Config, main
from audit.embedder import Embedder
from audit.embeddings import Embeddings
from audit.errors import AuditError
from checkpoints.config import parse_config
from checkpoints.errors import CheckpointError
from checkpoints.weights import load_backbone, save_backbone
from data.errors import DataError
from data.loader import as_floats

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config_of(small_run, toy_pack, tmp_path):
    """``config_of(*flags)`` of a command that writes ``tmp_path / "out"``."""

    def config(*flags: str, run: Path = small_run) -> Config:
        line = [str(run), str(toy_pack.folder), f"--out={tmp_path / 'out'}", "--cpu_threads=1", *flags]
        return parse_config(Config, line, embed.__doc__)

    return config


@pytest.fixture
def blocks_of_50(monkeypatch) -> None:
    monkeypatch.setattr(embed, "BLOCK", 50)


@pytest.fixture
def leave_blocks(blocks_of_50, monkeypatch):
    """``leave_blocks(config)``: runs a command that is killed when all blocks are there, and nothing else is."""

    def refuse(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def leave(config: Config) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(embed, "write_embeddings", refuse)
            with pytest.raises(KeyboardInterrupt):
                main(config)

    return leave


@torch.no_grad()
def test_row_i_is_the_mean_over_the_windows_of_clip_i(config_of, small_run, toy_pack, tmp_path, capsys):
    found = main(config_of())
    backbone = load_backbone(small_run / "backbone").eval()
    for row in (0, 49, 7):
        sound = as_floats(torch.from_numpy(toy_pack.samples(row).copy()))
        starts = (0,) if len(sound) == 8000 else (0, len(sound) - 8000)
        own = [backbone(sound[None, at : at + 8000]).tokens.mean(dim=1)[0] for at in starts]
        np.testing.assert_allclose(found.vectors[row], torch.stack(own).mean(dim=0), atol=1e-5)
    assert found.vectors.shape == (120, 32)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["embeddings.json", "vectors.npy"]
    info = json.loads((tmp_path / "out" / "embeddings.json").read_text())
    assert info["run"] == str(small_run)
    assert (info["backbone"], info["pooling"], info["num_samples"], info["precision"]) == ("ast", "mean", 8000, "no")
    assert "finished 120 clips" in capsys.readouterr().out
    found.embedder()


def test_embeddings_lie_in_their_run(small_run, toy_pack, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    found = main(Config(str(run), toy_pack.folder, cpu_threads=1))
    assert found.folder == run / "embeddings" / "toy"
    assert embed.default_folder("MIT/ast", toy_pack) == Path("runs/MIT--ast/embeddings/toy")


def test_what_was_killed_goes_on_and_ends_the_same(config_of, tmp_path, monkeypatch, blocks_of_50):
    whole = main(config_of())
    expected = (whole.folder / "vectors.npy").read_bytes()
    shutil.rmtree(whole.folder)

    calls, of_rows = [], Embedder.of_rows

    def killed(self, pack, rows, *others):
        calls.append(rows[0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return of_rows(self, pack, rows, *others)

    monkeypatch.setattr(Embedder, "of_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        main(config_of())
    with pytest.raises(AuditError, match="is not finished"):
        Embeddings.open(tmp_path / "out")
    main(config_of("--batch_size=32"))
    assert calls == [0, 50, 50, 100]
    assert (tmp_path / "out" / "vectors.npy").read_bytes() == expected
    main(config_of())  # and once more there is nothing to do
    assert len(calls) == 4


def test_blocks_of_another_plan_are_not_mixed_in(config_of, tmp_path, leave_blocks):
    expected = np.array(main(config_of("--pooling=mean_layers")).vectors)
    shutil.rmtree(tmp_path / "out")
    leave_blocks(config_of())
    assert len(list((tmp_path / "out" / ".partial").glob("*.npy"))) == 3
    np.testing.assert_array_equal(main(config_of("--pooling=mean_layers")).vectors, expected)


def test_a_damaged_block_is_named(config_of, tmp_path, leave_blocks):
    leave_blocks(config_of())
    (tmp_path / "out" / ".partial" / "000001.npy").write_bytes(b"")
    with pytest.raises(AuditError, match=r"000001\.npy is damaged; delete it"):
        main(config_of())


def test_other_embeddings_are_not_written_over(config_of):
    before = main(config_of("--dtype=float16"))
    assert before.vectors.dtype == np.float16
    with pytest.raises(AuditError, match="holds embeddings with dtype float16, float32 is asked for"):
        main(config_of())
    with pytest.raises(AuditError, match=r"with layers \[\], \[1\] is asked for"):
        main(config_of("--dtype=float16", "--layers=[1]"))


def test_a_run_that_answers_with_nan_is_named_with_the_clips(config_of, small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    backbone = load_backbone(run / "backbone")
    backbone.ast.layernorm.bias.data[0] = torch.nan
    save_backbone(backbone, run / "backbone")
    with pytest.raises(AuditError, match=r"120 of 120 in .*run have another: toy/0000, toy/0001, .* and 117 more"):
        main(config_of(run=run))


def test_what_float16_cannot_hold_is_found(config_of, small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    backbone = load_backbone(run / "backbone")
    backbone.ast.layernorm.bias.data[0] = 1e5
    save_backbone(backbone, run / "backbone")
    with pytest.raises(AuditError, match="or with --dtype float32"):
        main(config_of("--dtype=float16", run=run))
    main(config_of(run=run))


def test_bad_input_gets_one_sentence(config_of, toy_pack, tmp_path):
    with pytest.raises(CheckpointError, match="required: pack"):
        parse_config(Config, ["runs/x"], embed.__doc__)
    with pytest.raises(CheckpointError, match="--batch_size must be positive, not 0"):
        config_of("--batch_size=0")
    with pytest.raises(CheckpointError, match=r"a run folder, .* weights that ship .* or a Hub id was expected"):
        main(config_of(run=tmp_path / "nowhere"))
    with pytest.raises(DataError, match="a pack was expected"):
        main(Config(str(tmp_path), tmp_path))
    with pytest.raises(ValueError, match="there is no 7"):
        main(config_of("--layers=[7]"))
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        main(config_of())


@pytest.mark.slow
def test_two_processes_write_what_one_does(small_run, toy_pack, tmp_path):
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    written = []
    (tmp_path / "small_blocks.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom audit import embed\nembed.BLOCK = 25\n"
        "embed.main(embed.Config(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), cpu_threads=1))\n"
    )
    for processes in (1, 2):
        out = tmp_path / f"of_{processes}"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, str(tmp_path / "small_blocks.py"), str(small_run)]
        ended = subprocess.run(
            [*command, str(toy_pack.folder), str(out)], cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        written.append((out / "vectors.npy").read_bytes())
    assert written[0] == written[1]


@pytest.mark.slow
def test_a_wrong_run_ends_the_command_with_one_sentence(toy_pack, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "audit.embed", str(tmp_path), str(toy_pack.folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("error: a backbone was expected in")
