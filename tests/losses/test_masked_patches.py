"""The loss and its rivals: slow loops from the papers, closed forms, finite differences."""

import pytest
import torch

from losses.masked_patches import interpolated_from_nearest, masked_patch_loss, mean_of_visible, normalised_patches


def slow_loss(prediction: torch.Tensor, target: torch.Tensor, is_padding: torch.Tensor) -> float:
    """Mean over clips of the mean over masked patches of the mean squared error of their values, He et al. 2021."""
    of_clips = []
    for clip in range(prediction.shape[0]):
        errors = []
        for patch in range(prediction.shape[1]):
            if not is_padding[clip, patch]:
                pairs = zip(prediction[clip, patch].tolist(), target[clip, patch].tolist(), strict=True)
                squares = [(one - other) ** 2 for one, other in pairs]
                errors.append(sum(squares) / len(squares))
        of_clips.append(sum(errors) / len(errors) if errors else 0.0)
    return sum(of_clips) / len(of_clips)


def test_loss_equals_a_loop():
    prediction, target = torch.randn(2, 3, 5, 4)
    is_padding = torch.tensor([[True, False, False, True, True], [False] * 5, [True] * 5])
    nothing = torch.zeros_like(is_padding)
    # float32 sums of sixty values
    assert masked_patch_loss(prediction, target).item() == pytest.approx(
        slow_loss(prediction, target, nothing), rel=1e-5
    )
    found = masked_patch_loss(prediction, target, is_padding).item()
    assert found == pytest.approx(slow_loss(prediction, target, is_padding), rel=1e-5)


def test_the_mean_over_parts_of_a_batch_is_the_mean_over_it():
    prediction, target = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    is_padding = torch.arange(5) >= torch.tensor([[1], [5], [3], [2]])
    halves = zip(*(values.chunk(2) for values in (prediction, target, is_padding)), strict=True)
    parts = [masked_patch_loss(*half) for half in halves]
    expected = masked_patch_loss(prediction, target, is_padding)
    torch.testing.assert_close(torch.stack(parts).mean(), expected, rtol=1e-12, atol=0)


def test_loss_in_closed_form():
    target = torch.randn(2, 3, 4)
    assert masked_patch_loss(target, target) == 0
    assert masked_patch_loss(target + 3, target).item() == pytest.approx(9, rel=1e-5)
    is_padding = torch.tensor([[True, False, False], [False, False, True]])
    wild = torch.where(is_padding[..., None], torch.full_like(target, 1e6), target + 2)
    assert masked_patch_loss(wild, target, is_padding).item() == pytest.approx(4, rel=1e-5)


def test_loss_of_nothing_is_zero_with_a_gradient_of_zero():
    empty = torch.zeros(2, 0, 4, requires_grad=True)
    padded = torch.randn(2, 3, 4, requires_grad=True)
    for prediction, is_padding in ((empty, None), (padded, torch.ones(2, 3, dtype=torch.bool))):
        loss = masked_patch_loss(prediction, torch.zeros_like(prediction), is_padding)
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, prediction)
        assert not gradient.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_loss_of_half_precision_is_computed_in_float32(dtype):
    prediction = torch.full((1, 1, 4), 300.0, dtype=dtype)  # its square overflows float16
    loss = masked_patch_loss(prediction, torch.zeros(1, 1, 4))
    assert loss.dtype == torch.float32
    assert loss == 300.0**2


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    prediction, target = (
        torch.randn(2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2)
    )
    is_padding = torch.tensor([[True, False, False], [False, True, True]])
    assert torch.autograd.gradcheck(masked_patch_loss, (prediction, target))
    assert torch.autograd.gradcheck(lambda one, other: masked_patch_loss(one, other, is_padding), (prediction, target))
    assert torch.autograd.gradcheck(normalised_patches, (prediction,))
    (gradient,) = torch.autograd.grad(masked_patch_loss(prediction, target, is_padding), prediction)
    assert not gradient[is_padding].any()


def test_normalised_patches_equal_a_loop():
    patches = torch.randn(2, 3, 16) * 3 + 1
    for clip in range(2):
        for patch in range(3):
            values = patches[clip, patch].double()
            mean = values.sum() / 16
            variance = (values - mean).square().sum() / 15
            expected = (values - mean) / (variance + 1e-6).sqrt()
            torch.testing.assert_close(normalised_patches(patches)[clip, patch], expected.float())


def test_normalised_patches_in_closed_form():
    assert not normalised_patches(torch.full((1, 2, 4), 7.0)).any()  # a silent patch is 0 and not NaN
    patches = torch.randn(1, 2, 256)
    once = normalised_patches(patches)
    torch.testing.assert_close(normalised_patches(5 * patches - 3), once, atol=1e-5, rtol=1e-5)  # level and gain go


def test_mean_of_visible_is_the_mean():
    visible = torch.randn(2, 3, 4)
    found = mean_of_visible(visible, 5)
    assert found.shape == (2, 5, 4)
    for patch in range(5):
        torch.testing.assert_close(found[:, patch], (visible[:, 0] + visible[:, 1] + visible[:, 2]) / 3)


def slow_interpolation(visible: torch.Tensor, ids_keep: list[int], patch: int, time: int) -> torch.Tensor:
    """Shepard's inverse squared distances over the four nearest places."""
    distance = {}
    for place, kept in enumerate(ids_keep):
        distance[place] = (kept // time - patch // time) ** 2 + (kept % time - patch % time) ** 2
    near = sorted(distance, key=distance.get)[:4]
    weights = [1 / distance[place] for place in near]
    return sum(weight * visible[place] for weight, place in zip(weights, near, strict=True)) / sum(weights)


def test_interpolation_equals_a_loop():
    # Every masked patch has its fourth and fifth nearest at different distances, so that "the four nearest" is plain.
    grid, ids_keep = (4, 9), torch.tensor([[0, 4, 10, 12, 20, 26, 35], [1, 5, 13, 18, 24, 27, 34]])
    visible = torch.randn(2, 7, 6)
    rows = []
    for row in ids_keep.tolist():
        plain = []
        for patch in sorted(set(range(36)) - set(row)):
            squares = sorted((kept // 9 - patch // 9) ** 2 + (kept % 9 - patch % 9) ** 2 for kept in row)
            plain += [patch] if squares[3] < squares[4] else []
        rows.append(plain)
    count = min(len(row) for row in rows)
    ids_masked = torch.tensor([row[:count] for row in rows])
    assert count >= 10
    found = interpolated_from_nearest(visible, ids_keep, ids_masked, grid)
    for clip in range(2):
        for place, patch in enumerate(ids_masked[clip].tolist()):
            expected = slow_interpolation(visible[clip], ids_keep[clip].tolist(), patch, 9)
            torch.testing.assert_close(found[clip, place], expected, atol=1e-5, rtol=1e-5)


def test_interpolation_in_closed_form():
    ids_keep, ids_masked = torch.tensor([[0, 2]]), torch.tensor([[1, 3]])
    visible = torch.tensor([[[1.0], [3.0]]])
    found = interpolated_from_nearest(visible, ids_keep, ids_masked, (1, 4))
    torch.testing.assert_close(found, torch.tensor([[[2.0], [(1 / 9 + 3) / (1 / 9 + 1)]]]))
    alone = interpolated_from_nearest(visible[:, :1], ids_keep[:, :1], ids_masked, (1, 4))
    torch.testing.assert_close(alone, torch.ones(1, 2, 1))
    flat = interpolated_from_nearest(torch.ones(1, 2, 1), ids_keep, ids_masked, (1, 4))
    torch.testing.assert_close(flat, torch.ones(1, 2, 1))
