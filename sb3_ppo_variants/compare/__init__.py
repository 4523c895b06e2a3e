"""Comparison of algorithms over environments and seeds: ``sb3-ppo-variants compare``.

Layers, each importing only those above it::

    cells            what one training run is: arm, environment, seed, and the settings it runs with
    arms             an algorithm under a label, with changed hyperparameters
    sweep            every arm at every value of some hyperparameters
    settings         hyperparameters and where they come from, resolved by rl-zoo3
    plan             all cells of a comparison, its settings file, and what may change when it is continued
    presets          ready-made comparisons
    run/             cells as processes, here or on a Ray cluster; evaluation; the folder of results
    report/          out of results: scores, intervals, figures, sections, the page
    command_line     the arguments
    command          the command

Nothing here is imported by ``import sb3_ppo_variants``.
"""
