"""Settings of the site: ``make docs``. Every warning is an error there, an unknown name in a docstring too."""

from sb3_ppo_variants import __version__

project = "sb3_ppo_variants"
author = "The sb3_ppo_variants developers"
copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sb3_ppo_variants {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
highlight_language = "none"  # of a block without a language: output, formulas
maximum_signature_line_length = 88

# Links to headings, as on GitHub. MyST warns of one that is not there.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
suppress_warnings = ["myst.header"]  # the report of a comparison starts its sections at level 3

# Docstrings.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True

# Names that other projects document. Their inventories are not asked for, so that the site is built without a network.
nitpicky = True
_OTHERS = "torch|th|numpy|np|npt|stable_baselines3|sb3_contrib|gymnasium|matplotlib|collections|typing|pathlib|os|io"
nitpick_ignore_regex = [
    (r"py:.*", rf"({_OTHERS})\..*"),
    (r"py:(class|exc|obj)", r"(int|float|bool|str|bytes|dict|list|tuple|set|type|object|None|optional)"),
    (r"py:(class|exc|obj)", r"[A-Z]\w*"),  # built-in errors, and types that a module imports under their short name
    (r"py:class", r"sb3_ppo_variants\.\w+\..*"),  # types in a signature that are not public
    (r"std:ref", r"ppo_\w*policies"),  # in docstrings of the hosts
]

copybutton_prompt_text = r"\$ "
