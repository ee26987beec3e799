"""Training in a child interpreter, watched from its first step to its last.

A call that hangs in a driver cannot be interrupted from inside its process, and a thread that
beats beside it would not notice. So training runs in a child that beats from the training step
itself, under a parent that imports no torch: when the child is silent, the parent takes a stack
dump, kills it, and resumes from the last checkpoint, on the CPU where the device is at fault.
"""
