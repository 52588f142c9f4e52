"""Who looks at what a kernel shows: a page that is made now, or a person with a live notebook?

A kernel is not told. What can be known is who started it: notebook servers, Colab and VS Code leave a trace. A program
that executes notebooks leaves none, and what it shows is for a page.
"""

import os
import sys
from importlib.util import find_spec

VARIABLE = "GEONORM_LIVE"
CHOICES = {"0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}


def has_live_widgets() -> bool:
    """Return whether widgets that ask this kernel will be answered.

    Raises:
        ValueError: If the environment variable ``GEONORM_LIVE`` is neither a yes nor a no.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice and choice.lower() not in CHOICES:
        raise ValueError(f"{VARIABLE} is {choice!r}, expected 1 for widgets, 0 for the page, or nothing to let me look")
    if find_spec("ipywidgets") is None:
        return False
    return CHOICES[choice.lower()] if choice else _started_by_a_notebook()


def has_notebook_server() -> bool:
    """Return whether JupyterLab or Notebook started this kernel; they name the session of what a person opened."""
    return bool(os.environ.get("JPY_SESSION_NAME"))


def _started_by_a_notebook() -> bool:
    # Binder is JupyterLab, too.
    if has_notebook_server() or "google.colab" in sys.modules:
        return True
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    # VS Code puts the path of the notebook among its variables.
    return shell is not None and "__vsc_ipynb_file__" in getattr(shell, "user_ns", {})
