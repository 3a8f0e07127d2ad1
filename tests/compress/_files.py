"""A small compressed network in a file, and its parts, so that tests can forge it."""

import json
import lzma

import safetensors.torch
import torch
from torch import nn

from pyro_vd.compress import save, shrink


def make():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def saved(path):
    """A shrunk network with selected inputs, one column of zeros, and integers on a grid."""
    torch.manual_seed(1)
    net = make().eval()
    with torch.no_grad():
        net[0].weight[:, 2:4] = 0
        net[0].weight[0] = 0
        net[3].weight.copy_((net[3].weight * 8).round() / 8)
        net[3].weight[:, 1] = 0
    small = shrink(net, torch.randn(8, 6))
    save(small, path, {"3.weight": 0.125})
    return small


def unpack(path):
    content = lzma.decompress(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    return safetensors.torch.load(content), json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["pyro_vd"])


def pack(path, arrays, body):
    contiguous = {name: array.contiguous() for name, array in arrays.items()}
    path.write_bytes(lzma.compress(safetensors.torch.save(contiguous, {"pyro_vd": json.dumps(body)})))
