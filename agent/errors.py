"""The root of the error tree: whatever this project raises on purpose derives from `WardenError`.

Each module defines its own errors beside the code that raises them, and every one carries its
evidence (path, driver, port, bound) in attributes, so that a caller need not parse the text:

* WardenError
    * LinkError      (agent.link)       a local socket cannot be listened on, or its path cannot be one
    * PacketError    (agent.link)       one packet that breaks the rules of the link
    * LogError       (agent.recorder)   the log cannot be opened or written just now
    * ...            one branch per module
"""


class WardenError(Exception):
    """Anything that went wrong and that this project has a name for; never raised itself."""
