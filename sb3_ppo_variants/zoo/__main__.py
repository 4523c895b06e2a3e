"""``python -m sb3_ppo_variants.zoo``: the command line."""

from sb3_ppo_variants.cli import main

if __name__ == "__main__":
    main()
