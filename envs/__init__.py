"""Environments, most of them finite with known models; importing this registers their ids only."""

import gymnasium

for _id, _entry_point, _max_episode_steps in (
    ("DoubleChain", "double_chain:DoubleChainEnv", 20),
    ("GridWorld", "grid_world:GridWorldEnv", 20),
    ("RiverSwim", "river_swim:RiverSwimEnv", 20),
    ("Ring", "ring:RingEnv", 100),
    ("Garnet", "garnet:GarnetEnv", 50),
    ("NoisyChain", "noisy_chain:NoisyChainEnv", 10),
    ("Fan", "fan:FanEnv", 2),
    ("MachineReplacement", "machine_replacement:MachineReplacementEnv", 50),
    ("Inventory", "inventory:InventoryEnv", 50),
    ("StakesGrid", "stakes_grid:StakesGridEnv", 12),
):
    gymnasium.register(
        id=f"rlentropy/{_id}-v0",
        entry_point=f"rlentropy.envs.{_entry_point}",
        max_episode_steps=_max_episode_steps,
    )

for _id, _module, _max_episode_steps in (  # of arrays; `gymnasium.make_vec` plays them side by side
    ("ContinuousGrid", "continuous_grid", 1200),
    ("MountainCarWalled", "mountain_car_walled", 400),
    ("HangingPendulum", "hanging_pendulum", 200),
    ("PointMaze", "point_maze", 100),
):
    gymnasium.register(
        id=f"rlentropy/{_id}-v0",
        entry_point=f"rlentropy.envs.{_module}:{_id}Env",
        vector_entry_point=f"rlentropy.envs.{_module}:{_id}Batch",
        max_episode_steps=_max_episode_steps,
    )
