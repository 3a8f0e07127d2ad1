"""check_masks: masks of another network are refused by name."""

import pytest
import torch

from pyro_vd.errors import UserError
from pyro_vd.model.masks import check_masks

WEIGHTS = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
MASKS = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in WEIGHTS.items()}


def test_masks_of_these_weights_pass():
    check_masks(MASKS, WEIGHTS, "mean")
    check_masks({"a": MASKS["a"]}, WEIGHTS, "prune", partial=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c": MASKS["b"]}, "mean: masks of another network: no weight 'c'"),
        ({"b": None}, "no mask for 'b'"),
        ({"a": torch.ones(3, dtype=torch.bool)}, r"the mask of 'a' is \(3,\) torch.bool, expected \(2, 3\) torch.bool"),
        ({"b": torch.ones(4)}, r"the mask of 'b' is \(4,\) torch.float32, expected \(4,\) torch.bool"),
        ({"b": None, "c": MASKS["b"]}, "no mask for 'b'; no weight 'c'"),
    ],
)
def test_others_are_refused_by_name(changes, message):
    masks = {name: mask for name, mask in {**MASKS, **changes}.items() if mask is not None}
    with pytest.raises(UserError, match=message):
        check_masks(masks, WEIGHTS, "mean")
