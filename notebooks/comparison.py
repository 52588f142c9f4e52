"""How `pytest --nbval` compares: in the environment of the committed outputs, and with two repairs of nbval 0.11.

The conftest.py beside each folder's notebooks takes its hook from here.

nbval runs cells outside IPython's history, so a trailing ';' prints what it should hide, and it waits only five seconds
for outputs that are still under way.
"""

import tempfile

import nbval.kernel
from execute import kernel_environment
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

OUTPUT_TIMEOUT = 60
# execute.py refuses stderr in a committed notebook; what a re-run writes there comes from the reader's machine.
NOT_COMPARED = ("stderr",)

_profile = tempfile.TemporaryDirectory()
_start_new_kernel, _initialize = nbval.kernel.start_new_kernel, IPyNbCell.__init__


def _start_in_fixed_environment(**kwargs):
    return _start_new_kernel(env=kernel_environment(_profile.name), **kwargs)


def _execute_with_history(self, cell_input, allow_stdin=None):
    return self.kc.execute(cell_input, allow_stdin=bool(allow_stdin), store_history=True, stop_on_error=False)


def _initialize_with_patience(self, *args, **kwargs):
    _initialize(self, *args, **kwargs)
    self.output_timeout = OUTPUT_TIMEOUT


nbval.kernel.start_new_kernel = _start_in_fixed_environment
RunningKernel.execute_cell_input = _execute_with_history
IPyNbCell.__init__ = _initialize_with_patience


def pytest_collectstart(collector):
    """Leave out of the comparison what differs between machines."""
    if isinstance(collector, IPyNbFile):
        collector.skip_compare = (*collector.skip_compare, *NOT_COMPARED)
