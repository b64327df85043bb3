"""Bring weights files of earlier versions to the present configuration: values unchanged, a new identity.

::

    python -m experiments.migrate runs/selective_detail/small/last.safetensors -o migrated

Files written before the configuration had parts keep every setting in one table; of those, the ones that decoding needs
are kept under their present names. Pictures decoded with the migrated weights are the same; files written with the old
ones name the old identity and need the version that wrote them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from genic.experiments.command import command, make_parser
from genic.lightning_modules.codec.errors import WeightsError
from genic.lightning_modules.codec.weights import load_weights, save_weights
from genic.lightning_modules.registry import find_paper

# Paper -> old name -> present name, of settings of the model that have another name now. (Equal names need no line.)
RENAMED: dict[str, dict[str, str]] = {
    "gan_reversal": {"guess": "encoder"},
    "ppgn_inpainting": {
        "rate": "step_size",
        "lambda_edge": "edge_weight",
        "lambda_style": "style_weight",
        "lambda_content": "content_weight",
        "lambda_boundary": "boundary_weight",
    },
}
# The same of settings of encoding, which weights of such papers carry along.
CODING: dict[str, dict[str, str]] = {
    "gan_reversal": {"search_rate": "learning_rate", "mse": "mse_weight", "lambda_rate": "rate_weight"},
}
# Paper -> the setting that had a value for each rate level.
LEVELS = {"selective_detail": "lambda_e", "gdae_sprc": "lambda_rate"}
# Settings of pretrained transforms.
_TRANSFORM = {"transform", "analysis_blocks", "synthesis", "synthesis_blocks", "light_decoder"}
# Paper -> settings of the model that came later, whose defaults are what earlier versions did.
ADDED = {
    "extreme_semantic": _TRANSFORM,
    "gdae_sprc": {"R", "R_blocks"},
    "selective_detail": {*_TRANSFORM, "correction"},
}


def migrate(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of an earlier version as the present one has them; those of the present one unchanged.

    Raises:
        WeightsError: a setting that the model needs is not there.
    """
    paper, old = metadata["paper"], json.loads(metadata["config"])
    parts = find_paper(paper).config_class()()
    known = {field.name for field in fields(parts.model)}
    if set(old) <= known:
        return dict(tensors), dict(metadata)
    renamed = {RENAMED.get(paper, {}).get(name, name): value for name, value in old.items()}
    if "levels" in known and "levels" not in renamed:
        renamed["levels"] = len(old[LEVELS[paper]])
    known -= ADDED.get(paper, set())
    missing = known - set(renamed)
    if missing:
        raise WeightsError(
            f"the weights of {paper} lack the settings {', '.join(sorted(missing))}: train them again"
        )
    config = {name: renamed[name] for name in sorted(known)}
    told = {"config": config, "training": old}
    if paper in CODING:
        # An old name that means something else now gives way to the one that took its name.
        coding = {name: value for name, value in old.items() if name not in CODING[paper].values()}
        coding = {CODING[paper].get(name, name): value for name, value in coding.items()}
        told["coding"] = {f.name: coding[f.name] for f in fields(parts.coding) if f.name in coding}
    return dict(tensors), {
        **metadata,
        **{name: json.dumps(part, sort_keys=True) for name, part in told.items()},
    }


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("migrate", __doc__)
    parser.add_argument(
        "weights", nargs="+", type=Path, metavar="FILE", help="safetensors of an earlier version"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    options = parser.parse_args(arguments)
    for path in options.weights:
        target = options.output / path.name
        identity = save_weights(target, *migrate(*load_weights(path)))
        print(f"{target}  identity {identity.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
