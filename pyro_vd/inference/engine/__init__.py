"""How a training step is made: the objective, what follows from its gradient, and what runs it."""

from pyro_vd.inference.engine.adam import parameter_groups as parameter_groups
from pyro_vd.inference.engine.compiled_step import StepOutput as StepOutput
from pyro_vd.inference.engine.eager_step import EagerStep as EagerStep
from pyro_vd.inference.engine.engine import COMPILE_PAYS_AFTER as COMPILE_PAYS_AFTER
from pyro_vd.inference.engine.engine import Engine as Engine
from pyro_vd.inference.engine.engine import Mode as Mode
from pyro_vd.inference.engine.ensemble import separate as separate
from pyro_vd.inference.engine.objective import Estimator as Estimator
from pyro_vd.inference.engine.objective import MatmulDtype as MatmulDtype
from pyro_vd.inference.engine.objective import Objective as Objective
from pyro_vd.inference.engine.objective import trace_objective as trace_objective
