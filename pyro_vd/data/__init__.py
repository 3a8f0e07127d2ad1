"""Datasets as tensors: ``load`` finds, verifies or downloads them; ``augment`` changes their images at random."""

from pyro_vd.data.cache import data_folder as data_folder
from pyro_vd.data.datasets import DATASETS as DATASETS
from pyro_vd.data.datasets import load as load
from pyro_vd.data.labeled_images import LabeledImages as LabeledImages
from pyro_vd.data.splits import DataSplits as DataSplits
from pyro_vd.data.uci import UCI_SETS as UCI_SETS
from pyro_vd.data.uci import RegressionTable as RegressionTable
from pyro_vd.data.uci import load_uci as load_uci
