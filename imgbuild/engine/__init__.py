"""The composition root and the public Python API: only here do rooms meet their implementations."""
