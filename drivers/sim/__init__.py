"""Simulated devices, for trying a plan without hardware: `driver = "sim"` and `warden run --simulate`.

* `settings`  what a plan may say of one
* `state`     what can be done to an input, as one table (pure)
* `panel`     the file through which a person presses, breaks and varies
* `device`    the device
"""
