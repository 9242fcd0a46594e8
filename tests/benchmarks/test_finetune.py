"""What a benchmark of fine-tuning compares, and how it counts."""

import pytest
import torch

from backbones.ast_encoder import Tokens
from benchmarks import finetune
from benchmarks.finetune import CLASSES, FULL, HEAD, LORA, PEER, PROBE, builders_of, compare, step_mib


def trained_of(candidate: finetune.Candidate) -> set[str]:
    return {name for name, parameter in candidate.model.named_parameters() if parameter.requires_grad}


def test_transformers_hears_padded_clips_in_patches_that_overlap():
    candidate = builders_of("ast")[PEER]("tiny", 2)
    heard = []
    model = candidate.model
    model.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].shape))
    assert candidate.loss().item() == pytest.approx(0.69, abs=0.1)  # even odds
    assert heard == [(2, 1024, 128)]
    assert model.audio_spectrogram_transformer.embeddings.position_embeddings.shape[1] == 1214
    assert len(trained_of(candidate)) == len(list(model.parameters()))


def test_transformers_wav2vec2_keeps_its_convolutions_as_the_usual_recipe_does():
    candidate = builders_of("wav2vec2")[PEER]("tiny", 1)
    candidate.loss().backward()
    frozen = {name for name, values in candidate.model.named_parameters() if values.grad is None}
    assert {name.split(".")[1] for name in frozen} == {"feature_extractor"}
    assert candidate.model.training


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_ours_trains_what_its_row_says_and_nothing_else(kind):
    builders = builders_of(kind)
    of_head = trained_of(builders[HEAD]("tiny", 1))
    assert {name.split(".")[0] for name in of_head} == {"heads"}
    of_lora = builders[LORA]("tiny", 1)
    assert all("lora" in name for name in trained_of(of_lora) - of_head)
    before = {name: values.clone() for name, values in of_lora.model.named_parameters()}
    step = of_lora.step()
    step()
    step()  # of LoRA's two factors one starts at zero, and so does the gradient of the other
    changed = {name for name, values in of_lora.model.named_parameters() if not torch.equal(values, before[name])}
    assert changed == trained_of(of_lora)
    assert any(name.startswith("backbone") for name in trained_of(builders[FULL]("tiny", 1)))


def test_rates_are_a_clip_and_memory_is_a_share_of_the_peers(monkeypatch, capsys):
    seconds = {PEER: 4.0, FULL: 2.0, LORA: 0.5, HEAD: 0.25, PROBE: 0.0512}
    memory = {PEER: 2000.0, FULL: 900.0, LORA: 400.0, HEAD: 100.0}
    monkeypatch.setattr(finetune, "builders_of", lambda kind: {name: real[name] for name in seconds})
    monkeypatch.setattr(finetune, "step_mib", lambda kind, names, *_: {name: memory[name] for name in names})
    monkeypatch.setattr(finetune, "rounds_of", lambda calls, *_: {name: [seconds[name]] * 2 for name in calls})
    real = builders_of("ast")
    times, shares = compare("ast", "tiny", 2, 2, 0.1)
    assert times == pytest.approx({PEER: 1, FULL: 2, LORA: 8, HEAD: 16, PROBE: 2 / 0.0002})
    assert shares == pytest.approx({PEER: 1, FULL: 0.45, LORA: 0.2, HEAD: 0.05})
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "|" in line}
    cells = [cell.strip() for cell in lines[LORA].split("|")[2:-1]]
    assert (cells[0], cells[1], cells[3:]) == ("4", "8", ["400", "0.20"])
    assert [cell.strip() for cell in lines[PROBE].split("|")[2:4]] == ["5,000", "10,000"]


def test_goals_are_those_of_the_issue(monkeypatch, capsys):
    found = {
        "ast": ({LORA: 7.9, PROBE: 12_000.0}, {LORA: 0.2}),
        "wav2vec2": ({LORA: 1.6, HEAD: 2.2}, {LORA: 0.9}),
    }
    monkeypatch.setattr(finetune, "compare", lambda kind, *_: found[kind])
    monkeypatch.setattr("sys.argv", ["finetune", "--quick"])
    finetune.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split()[0] for line in lines] == ["MISSED", "met", "met", "MISSED", "met"]
    assert "share of the step's memory: 0.2, goal at most 0.25" in lines[1]


@pytest.mark.slow
def test_training_everything_takes_more_memory_than_training_heads():
    memory = step_mib("ast", [FULL, HEAD], "tiny", 4)
    assert memory[FULL] > 2 * memory[HEAD] > 0


def test_a_probe_learns_from_vectors_alone():
    candidate = builders_of("ast")[PROBE]("tiny", 2)
    assert candidate.batch_size == 256
    first = candidate.loss().item()
    step = candidate.step()
    for _ in range(20):
        step()
    assert candidate.loss().item() < first
    tokens = Tokens(torch.zeros(3, 1, 192), None, [])
    assert candidate.model(torch.zeros(3, 192), tokens)["instrument"].shape == (3, CLASSES)
