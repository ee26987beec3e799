"""Training in a child interpreter, watched from its first step to its last.

A call that hangs in a driver cannot be interrupted from inside its process, and a heartbeat thread
goes on beating beside it. So training runs in a child that beats from the training step itself,
under a parent that imports no torch: on silence it takes a stack dump, kills, and resumes from the
last checkpoint, on the CPU where the device is at fault.
"""
