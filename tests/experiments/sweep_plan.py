"""A plan for tests: short runs on digits, two of which begin with the same dense training."""

from pyro_vd.experiments import mnist_accuracy, mnist_compress
from pyro_vd.experiments.common.protocols import Protocol, compression_spec
from pyro_vd.experiments.common.spec import Data
from pyro_vd.experiments.plans import plan_columns, plan_compression

DIGITS = Data(name="digits")
SHORT = Protocol(name="short", epochs=2, batch_size=200, ramp=0.5, pretrain=20)
TWINS = [
    plan_compression(mnist_compress.STUDY, SHORT, scheme, compression_spec(SHORT, scheme, DIGITS, "lenet300"), {})
    for scheme in ("sparse", "hierarchical")
]
COLUMNS = mnist_accuracy.make_columns(DIGITS, (30,), Protocol(name="short", epochs=150, batch_size=200))
ROWS = plan_columns(mnist_accuracy.STUDY, COLUMNS, seeds=1)
PLAN = [*ROWS[:4], *TWINS]
