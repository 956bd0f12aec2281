"""TensorFlow programs from ONNX programs, by an importer of our own: ``converting.convert``.

TensorFlow is imported here for the whole floor, for two reasons. It writes to the standard error
when it is imported, whatever its logging is set to; that is dropped. And torch's compiler, triton,
ends the process when it is imported after TensorFlow: both carry an LLVM. So it comes first.
"""

import os
from contextlib import suppress

from d2serve.export.failures import nothing_printed

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with nothing_printed():
    with suppress(ImportError):
        import triton  # noqa: F401
    import tensorflow  # noqa: F401
