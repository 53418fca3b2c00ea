"""A client of the OCI distribution-spec 1.1: requests, authentication, retries, resumable transfers.

Speaks of repositories, digests and byte streams. Not here: what is in a manifest (oci), the store (store, transfer).
"""
