"""Several targets in one build file: what each is, what it inherits and needs, and which are meant. Pure; it builds nothing.

A build file comes in as a tree of located nodes (`nodes`), whichever text it was. `keys` says what a target can say, and how two that
say the same are merged; `project`, `compose` and `matrix` read the forms of build files; `select` makes targets of them, complete and in
an order in which they can be built. What a target means for a build is the engine's.

`imgbuild.yaml`, the form of our own:

    variables:                      # ${TAG} below; the environment comes before what is said here, and --var before both
      TAG: latest
    groups:
      default: [app, worker]        # what `imgbuild bake` builds when it is told nothing
    targets:
      _common:
        context: .                  # relative paths start at this file's directory
        args: {VERSION: "${VERSION:-dev}"}
      app:
        inherits: [_common]         # in order: later ones win, and what is said here wins over all
        target: app                 # the stage
        tags: ["example/app:${TAG}"]
      worker:
        inherits: [_common]
        contexts: {base: "target:app"}   # FROM base: the result of another target
        matrix: {queue: [mail, print]}   # a target for each; `worker` becomes the group of them
        name: worker-${queue}
        args: {QUEUE: "${queue}"}

Further keys of a target: buildfile, buildfile-inline, labels, annotations, platforms, secrets, ssh, outputs, no-cache, no-cache-filter,
pull, network, shm-size, ulimits, add-hosts, allow, compression, source-date-epoch, description. docker buildx's names mean the same.
"""
