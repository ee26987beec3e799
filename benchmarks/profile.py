"""`python benchmarks/profile.py` runs `step_profile.py`, which says what it measures.

The standard library has a module of this name; programs in this folder that import it get that one.
"""

import os
import runpy

if __name__ == "__main__":
    from step_profile import main

    main()
else:
    _path = os.path.join(os.path.dirname(os.__file__), "profile.py")
    globals().update(runpy.run_path(_path, run_name="profile"))
