"""Engines: the training objective, the step that follows from its gradient, and what runs the step."""

from pyro_vd.inference.engine.eager_step import EagerStep as EagerStep
from pyro_vd.inference.engine.engine import COMPILE_PAYS_AFTER as COMPILE_PAYS_AFTER
from pyro_vd.inference.engine.engine import Engine as Engine
from pyro_vd.inference.engine.engine import EngineName as EngineName
from pyro_vd.inference.engine.ensemble import Ensemble as Ensemble
from pyro_vd.inference.engine.objective import Estimator as Estimator
from pyro_vd.inference.engine.objective import MatmulDtype as MatmulDtype
from pyro_vd.inference.engine.objective import Objective as Objective
from pyro_vd.inference.engine.objective import trace_objective as trace_objective
from pyro_vd.inference.engine.step_output import StepOutput as StepOutput
