"""What the neighbours of a clip have in common with it, and how a batch of embeddings lies on the sphere.

Shapes: N queries, M candidates, E embedding size.
"""

import torch
from torch import Tensor


def retrieval(similarity: Tensor, is_relevant: Tensor, is_candidate: Tensor) -> dict[str, float]:
    """Precision at 1 and mean average precision at R of neighbours.

    MAP@R (Musgrave et al. 2020, arXiv 2003.08505, section 4.1) of a query with R relevant candidates:
    ``1/R * sum_{i=1..R} precision(i) if the i-th neighbour is relevant else 0``.

    Args:
        similarity: float ``(N, M)``, larger is nearer.
        is_relevant: bool ``(N, M)``, shares the query's label.
        is_candidate: bool ``(N, M)``, may be a neighbour: not the query itself, nor another clip of its timbre, which
            would measure how well a recording is remembered, nor a clip whose label is unknown.

    Returns:
        ``precision_at_1`` and ``map_at_r``, means over the queries that have a relevant candidate; empty if none has.
    """
    is_relevant = is_relevant & is_candidate
    number = is_relevant.sum(dim=1)  # R
    is_query = number > 0
    if not is_query.any():
        return {}
    nearest = similarity[is_query].masked_fill(~is_candidate[is_query], float("-inf")).argsort(dim=1, descending=True)
    hits = is_relevant[is_query].gather(1, nearest).double()
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    number = number[is_query].double()
    precision = hits.cumsum(dim=1) / rank * hits * (rank <= number[:, None])
    return {
        "precision_at_1": hits[:, 0].mean().item(),
        "map_at_r": (precision.sum(dim=1) / number).mean().item(),
    }


def distance_of_wrong_neighbours(similarity: Tensor, depth: Tensor, is_candidate: Tensor, right: int) -> float | None:
    """Mean depth of the tree at which queries part from their nearest neighbour, where it is wrong.

    It is if it parts deeper than `right`, and another candidate would not have parted as deep: what is no instrument
    parts from all candidates alike, and so does the only clip of its family from those of others.

    Args:
        depth: int8 ``(N, M)``, -1 where it is not known, see `data.depth.depths`.
        is_candidate: as in `retrieval`; pairs of unknown depth are left out too.
        right: the deepest depth that is no mistake, as 2 for the same family.

    Returns:
        None if no neighbour is wrong.
    """
    is_candidate = is_candidate & (depth >= 0)
    has_any = is_candidate.any(dim=1)
    nearest = similarity.masked_fill(~is_candidate, float("-inf")).argmax(dim=1)
    found = depth.gather(1, nearest[:, None])[:, 0]
    best = depth.masked_fill(~is_candidate, torch.iinfo(depth.dtype).max).amin(dim=1)
    wrong = found[has_any & (found > right) & (found > best)]
    return wrong.double().mean().item() if len(wrong) else None


def mean_distance_of_depths(unit: Tensor, depth: Tensor) -> list[float | None]:
    """Mean distance of pairs of unit embeddings ``(N, E)`` that part at each depth, 0 to 4; None where none does.

    Args:
        depth: int8 ``(N, N)``, -1 for pairs that do not count.
    """
    distance = (2 - 2 * unit @ unit.T).clamp(min=0).sqrt()
    return [distance[depth == value].mean().item() if (depth == value).any() else None for value in range(5)]


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of two unit views ``(N, E)`` of each clip (Wang and Isola 2020, arXiv 2005.10242, eq. 1).

    0 where a clip's views are alike.
    """
    return (first - second).square().sum(dim=1).mean().item()


def uniformity(unit: Tensor) -> Tensor:
    """``log mean exp(-2 |x - y|^2)`` over pairs of unit embeddings ``(N, E)`` (Wang and Isola 2020, equation 2).

    0 where all are equal; about -4 where they are spread evenly over a sphere of many dimensions.
    """
    return torch.pdist(unit).square().mul(-2).exp().mean().log().item()
