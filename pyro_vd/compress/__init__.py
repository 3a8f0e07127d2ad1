"""Makes a smaller network of a posterior: prune, shrink, quantize, save in few bytes, and export."""

from pyro_vd.compress.attention import PrunedAttention as PrunedAttention
from pyro_vd.compress.export import to_onnx as to_onnx
from pyro_vd.compress.export import to_safetensors as to_safetensors
from pyro_vd.compress.export import to_torch_export as to_torch_export
from pyro_vd.compress.int8 import to_onnx_int8 as to_onnx_int8
from pyro_vd.compress.layers import architecture as architecture
from pyro_vd.compress.patterns import block_masks as block_masks
from pyro_vd.compress.patterns import semi_structured_masks as semi_structured_masks
from pyro_vd.compress.prune import CurvePoint as CurvePoint
from pyro_vd.compress.prune import log_snr as log_snr
from pyro_vd.compress.prune import prune as prune
from pyro_vd.compress.prune import pruning_curve as pruning_curve
from pyro_vd.compress.prune import top_k_masks as top_k_masks
from pyro_vd.compress.quantize import bit_widths as bit_widths
from pyro_vd.compress.quantize import int8_step_sizes as int8_step_sizes
from pyro_vd.compress.quantize import posterior_step_sizes as posterior_step_sizes
from pyro_vd.compress.quantize import quantize as quantize
from pyro_vd.compress.quantize import round_to_float16 as round_to_float16
from pyro_vd.compress.report import CompressionReport as CompressionReport
from pyro_vd.compress.report import compression_report as compression_report
from pyro_vd.compress.selected_linear import SelectedLinear as SelectedLinear
from pyro_vd.compress.shrink import shrink as shrink
from pyro_vd.compress.storage import dense_bytes as dense_bytes
from pyro_vd.compress.storage import load as load
from pyro_vd.compress.storage import save as save
