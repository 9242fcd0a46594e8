"""Numbers that others published of NSynth, OpenMIC-2018 and IRMAS, with where they stand.

Papers round, choose and split in their own ways: the same model differs by up to five points between two labs' tables
(ATST-Clip on NSynth: 76.2 and 71.7), so differences of fewer points between ours and theirs mean nothing. What is
known from abstracts and tables alone is listed; what nobody could be quoted for is not.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A line of somebody else's table."""

    system: str
    how: str
    values: dict[str, float]
    """By the keys of `benchmarks.results_real.COLUMNS`."""
    source: str


EVAR = "EVAR, README of nttcslab/eval-audio-repr"
MATPAC = "Table 1 of arXiv 2508.12709"
MARBLE = "Tables 1 and 2 of MuQ (tencent-ailab/MuQ)"
HEAR = "HEAR leaderboard (hearbenchmark.com, docs/leaderboard.csv)"
LINEAR, PROBE, MLP = "linear", "frozen probe", "MLP, 50 h of notes"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "nsynth": (
        *(
            Published(system, LINEAR, {"family": family}, EVAR)
            for system, family in (
                ("CLAP 2023", 0.805), ("Dasheng 1.2B", 0.769), ("M2D", 0.757), ("BYOL-A", 0.731), ("AST", 0.729),
                ("PANNs CNN14", 0.659), ("Wav2Vec2, features", 0.622), ("Wav2Vec2, context", 0.566),
            )
        ),
        Published("MSM-MAE", LINEAR, {"family": 0.769}, "README of nttcslab/msm-mae"),
        *(
            Published(system, PROBE, {"family": family}, MATPAC)
            for system, family in (("ASiT", 0.770), ("MATPAC++", 0.768), ("BEATs iter3+", 0.734), ("MAE-AST", 0.735))
        ),
        *(
            Published(system, PROBE, {"family": family, "pitch": pitch}, MARBLE)
            for system, family, pitch in (("MuQ iter", 0.797, 0.913), ("MusicFM", 0.762, 0.911), ("MERT", 0.726, 0.944))
        ),
        *(
            Published(system, MLP, {"pitch": pitch}, HEAR)
            for system, pitch in (("CREPE", 0.900), ("OpenL3", 0.731), ("wav2vec2", 0.653), ("PaSST base", 0.541))
        ),
    ),
    "openmic": (
        *(
            Published(system, PROBE, {"openmic_map": value}, MATPAC)
            for system, value in (
                ("BEATs iter3+", 0.868), ("PaSST", 0.864), ("MATPAC++", 0.856), ("M2D", 0.848), ("ATST-Clip", 0.844),
                ("MAE-AST", 0.796), ("HuBERT", 0.781),
            )
        ),
        Published("MaskSpec", "fine-tuned", {"openmic_map": 0.854}, "abstract of arXiv 2204.12768"),
        Published("PaSST", "fine-tuned", {"openmic_map": 0.843}, "arXiv 2110.05069, by paperswithcode"),
    ),
    "irmas": (
        Published("Zhong et al. 2023, isolated notes first", "trained", {"irmas_f1_micro": 0.674, "irmas_lrap": 0.814},
                  "arXiv 2306.08850"),
        Published("Reghunath and Rajan 2022, Swin-T ensemble", "trained",
                  {"irmas_f1_micro": 0.66, "irmas_f1_macro": 0.62}, "doi 10.1186/s13636-022-00245-8"),
        Published("Lekshmi and Rajan 2025, focal modulation", "trained",
                  {"irmas_f1_micro": 0.66, "irmas_f1_macro": 0.58}, "doi 10.1007/s11227-025-07279-7"),
        Published("Han, Kim and Lee 2017, CNN", "trained", {"irmas_f1_micro": 0.602, "irmas_f1_macro": 0.503},
                  "arXiv 1605.09507"),
    ),
}  # fmt: skip
