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
    ("PointMaze", "point_maze:PointMazeEnv", 100),
):
    gymnasium.register(
        id=f"rlentropy/{_id}-v0",
        entry_point=f"rlentropy.envs.{_entry_point}",
        max_episode_steps=_max_episode_steps,
    )
