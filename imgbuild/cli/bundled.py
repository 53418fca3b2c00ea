"""Nothing: what Python keeps of this module in ``__pycache__`` has the bundle behind it (`imgbuild.cli.start`).

So it is made, validated, replaced and removed by whoever installs, as byte code is.
"""
