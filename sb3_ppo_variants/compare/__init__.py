"""Comparison of algorithms over environments and seeds: ``sb3-ppo-variants compare``.

Layers, each importing only those above it::

    cells            what one training run is: arm, environment, seed, and the settings it runs with
    plan             all cells of a comparison, its settings file, and what may change when it is continued
    settings         hyperparameters and where they come from, resolved by rl-zoo3
    evaluation       evaluation at fixed steps
    cell             one cell, as a program of its own
    cell_process     starts that program and watches it
    local_engine, ray_engine   many cells at once
    results          the folder of results: atomic files, checks, merging
    scores, statistics, trust_region   tables and intervals out of results
    figures, report, render   what is read
    presets, command the command line

Nothing here is imported by ``import sb3_ppo_variants``.
"""
