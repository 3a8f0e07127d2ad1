"""Datasets as tensors: ``load`` finds, verifies, or downloads them; ``augment`` moves their images."""

from pyro_vd.data.datasets import DATASETS as DATASETS
from pyro_vd.data.datasets import DataSplits as DataSplits
from pyro_vd.data.datasets import LabeledImages as LabeledImages
from pyro_vd.data.datasets import data_folder as data_folder
from pyro_vd.data.datasets import load as load
