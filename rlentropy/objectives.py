"""Names of the exploration objectives; free of imports so that the command line stays quick."""

from typing import Literal

VisitationObjective = Literal["VE", "VE_S", "AVE", "AVE_S"]
TrajectoryObjective = Literal["TE", "TE+"]
Objective = Literal["VE", "VE_S", "AVE", "AVE_S", "TE", "TE+"]
