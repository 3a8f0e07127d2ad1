"""How a training step is made: the objective, what follows from its gradient, and what runs it."""

from pyro_vd.engine.engine import COMPILE_PAYS_AFTER as COMPILE_PAYS_AFTER
from pyro_vd.engine.engine import Engine as Engine
from pyro_vd.engine.engine import Mode as Mode
from pyro_vd.engine.objective import Noise as Noise
from pyro_vd.engine.objective import Objective as Objective
from pyro_vd.engine.objective import Precision as Precision
from pyro_vd.engine.objective import trace_objective as trace_objective
from pyro_vd.engine.optimizer import parameter_groups as parameter_groups
from pyro_vd.engine.replica import Replica as Replica
from pyro_vd.engine.step import Outcome as Outcome
from pyro_vd.engine.together import separate as separate
