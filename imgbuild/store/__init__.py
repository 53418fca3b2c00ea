"""The content-addressed store: an OCI image layout with an index beside it (image-spec: image-layout.md).

`blobs` holds content by digest; `tags` is index.json; `index` (SQLite) holds step records, layers, snapshots, builds and usage.
Writers publish atomically; readers verify what leaves the machine. Many processes use one store at once: who works on it
holds a shared lease, and what removes things takes the store alone. What a killed process left is swept at the next start.
Not here: mounting (snapshot), tar (layer), registries (transfer).
"""
