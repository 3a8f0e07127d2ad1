"""From a posterior to a smaller network."""

from pyro_vd.compress.report import CompressionReport as CompressionReport
from pyro_vd.compress.report import compression_report as compression_report
